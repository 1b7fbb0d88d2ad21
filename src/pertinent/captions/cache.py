"""Captions that were made once: Parquet shards in a folder, each written whole, none ever changed.

A caption is found by the SHA-256 of the image's bytes, in the folder of the captioner's settings. Several processes may
write at once: a shard's name is the hash of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_parquet, reason_of, sha256_of_json, write_parquet
from pertinent.progress import say

_SCHEMA = {"image_sha256": pl.String, "text": pl.String}


class CaptionCache:
    """The captions of one captioner. folder: of the captioner's settings.

    A shard that cannot be read (a disk that filled up, a power cut) is told and passed over: its captions are made
    again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: dict[str, str] = {}
        for shard in sorted(folder.glob("*.parquet")):
            try:
                self._texts.update(read_parquet(shard, list(_SCHEMA)).iter_rows())
            except DataError as error:
                say(f"captions: a shard of the cache is passed over: {error}")

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, image_sha256: str) -> str | None:
        """What the captioner said of the image; None if it has not been asked."""
        return self._texts.get(image_sha256)

    def add(self, texts: Mapping[str, str]) -> None:
        """Keep what the captioner said: image's SHA-256 -> text."""
        if not texts:
            return
        rows = sorted(texts.items())
        shard = self._folder / f"captions-{sha256_of_json(rows)[:24]}.parquet"
        try:
            write_parquet(shard, pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {reason_of(error)}") from None
        self._texts.update(texts)
