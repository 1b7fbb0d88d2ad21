"""The captions stage: the images of items -> fields.parquet with a caption an image."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl

from pertinent.captions.cache import CaptionCache
from pertinent.captions.checks import CaptionError, check_caption
from pertinent.captions.config import CaptionsConfig
from pertinent.captions.endpoint import EndpointCaptioner, endpoint_settings
from pertinent.captions.images import (
    ImageError,
    Picture,
    decode,
    fetch_limits,
    file_of,
    is_url,
    load_bytes,
    require_pillow,
    sha256_of,
)
from pertinent.captions.model import ModelCaptioner
from pertinent.data.build import load_dataset
from pertinent.data.columns import Column, Entry, open_column, slices
from pertinent.data.sieve import reasons_of
from pertinent.data.source import QUARANTINE_SCHEMA
from pertinent.data.units import is_whole, unit_files
from pertinent.errors import DataError
from pertinent.files import cache_folder, read_parquet, settings_folder, sha256_of_file, sha256_of_json, write_parquet
from pertinent.progress import progress, say
from pertinent.types import StageResult
from pertinent.web.request import Limits, WebError, with_retries

_UNIT_SCHEMA = {
    "row": pl.Int64,
    "entry": pl.Int32,
    "item_id": pl.String,
    "image": pl.String,  # as written; null for bytes
    "image_sha256": pl.String,
    "text": pl.String,  # what the model said, before any check
    "reason": pl.String,  # why there is no text
}
_FIELDS_SCHEMA: dict[str, Any] = {"item_id": pl.String, "text_version": pl.Int8, "captions": pl.List(pl.String)}
_WARN_SHARE = 0.2


class Captioner(Protocol):
    """What is asked for captions. settings: JSON values, all that decides what is said of an image."""

    @property
    def settings(self) -> dict[str, Any]: ...

    def caption(self, pictures: Sequence[Picture]) -> Sequence[str | Exception]: ...


def caption_items(config: CaptionsConfig, data: Path, out: Path, *, seed: int) -> StageResult:
    """Caption the items' images: out/fields.parquet with item_id, text_version (-1) and captions list[str].

    data: the data stage's folder. An item without a caption has no row. Rows are worked off in units of the table's
    rows; each is kept in out/unit-NNNNN.parquet, whole or not at all, so a killed stage goes on after its last unit,
    and each text in the cache, so that no image is ever described twice by one model with one prompt. An image or
    caption that breaks a limit goes to out/quarantine.parquet with its reason. seed: sent to an endpoint; a local
    model draws nothing. The same input and answers give the same bytes, after any number of kills.
    Raises DataError where there is no image, ConfigError for a wrong column or key, ModelError for a model that cannot
    be had or an endpoint that answers nothing.
    """
    require_pillow()
    from PIL import Image

    column = _open(config, data)
    stop = threading.Event()
    captioner = _captioner(config, seed, stop)
    cache = _cache(config, captioner)
    units = unit_files(out, ceil(column.n_rows / config.unit_images))
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(config.fetch.concurrency) as pool,
        ThreadPoolExecutor(1) as ahead,
    ):
        # Pillow's own warning of large images: ours is a limit. The filter holds in the threads too.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            _work(config, column, units, captioner, cache, _Loader(config, column, cache, pool, stop), ahead)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _collect(config, column, units, out)


def caption_inputs(config: CaptionsConfig, data: Path, *, seed: int) -> dict[str, str]:
    """Hashes of what the stage reads beside its config, for its manifest: images, and the captioner's settings.

    A file counts by its name, size and time of change, an image in a column of bytes by the table's hash, a URL by its
    text alone.
    """
    column = _open(config, data)
    # An endpoint's key is not needed here: a stage that is done asks nothing.
    settings = ModelCaptioner(config).settings if config.endpoint is None else endpoint_settings(config, seed)
    inputs = {"captioner": sha256_of_json(settings)}
    if not column.holds_bytes:  # such a column may be larger than memory, and is in the table's hash
        inputs["images"] = _stats(config, column)
    return inputs if column.table is None else {**inputs, "table": sha256_of_file(column.table)}


def _open(config: CaptionsConfig, data: Path) -> Column:
    items = load_dataset(data).items.select("item_id")
    return open_column(config.images, config.images.column, items, data / "items.parquet", "captions.images.column")


def _captioner(config: CaptionsConfig, seed: int, stop: threading.Event) -> Captioner:
    return ModelCaptioner(config) if config.endpoint is None else EndpointCaptioner(config, seed=seed, stop=stop)


def _cache(config: CaptionsConfig, captioner: Captioner) -> CaptionCache:
    images = config.images.model_dump(include={"max_pixels", "max_side", "animated"})  # they decide what is shown
    settings = {**captioner.settings, "images": images}
    return CaptionCache(settings_folder(config.cache or cache_folder() / "captions", settings))


class _Loader:
    """Loads the images of a slice of rows, several at a time: bytes -> hash -> picture, unless the cache has its text."""

    def __init__(
        self,
        config: CaptionsConfig,
        column: Column,
        cache: CaptionCache,
        pool: ThreadPoolExecutor,
        stop: threading.Event,
    ) -> None:
        self._config, self._column, self._cache, self._pool, self._stop = config, column, cache, pool, stop
        self._limits: Limits = fetch_limits(config.fetch, config.images)

    def load(self, start: int) -> list[tuple[Entry, str | Picture | Exception]]:
        """Each entry with its picture, the hash of an image that needs none, or why there is no image."""
        entries = self._column.entries(start, self._config.unit_images)
        return list(zip(entries, self._pool.map(self._one, entries), strict=True))

    def _one(self, entry: Entry) -> str | Picture | Exception:
        images = self._config.images
        try:
            data = with_retries(partial(load_bytes, entry.value, images, self._limits), self._config.retry, self._stop)
            sha256 = sha256_of(data)
            return sha256 if self._cache.get(sha256) is not None else decode(data, sha256, images)
        except (ImageError, WebError) as error:
            return error


def _work(
    config: CaptionsConfig,
    column: Column,
    units: list[Path],
    captioner: Captioner,
    cache: CaptionCache,
    loader: _Loader,
    ahead: ThreadPoolExecutor,
) -> None:
    """Write the units that are not there yet; the next one's images are loaded while one's captions are made."""
    todo = [index for index, unit in enumerate(units) if not is_whole(unit, _UNIT_SCHEMA, "captions")]
    n_done = column.n_rows - sum(_rows_of(column, config, index) for index in todo)
    if n_done:
        say(f"captions: {n_done:,} rows are done already")
    with progress("captions", column.n_rows, "rows", n_done) as bar:
        coming: Future[list[tuple[Entry, str | Picture | Exception]]] | None = None
        for position, index in enumerate(todo):
            current = coming or ahead.submit(loader.load, index * config.unit_images)
            loaded = current.result()
            following = todo[position + 1 : position + 2]
            coming = ahead.submit(loader.load, following[0] * config.unit_images) if following else None
            rows = _caption_unit(loaded, captioner, cache)
            write_parquet(units[index], pl.DataFrame(rows, schema=_UNIT_SCHEMA, orient="row"))
            bar.advance(_rows_of(column, config, index), note=f"{len(cache):,} captions in the cache")


def _rows_of(column: Column, config: CaptionsConfig, index: int) -> int:
    return min(config.unit_images, column.n_rows - index * config.unit_images)


def _caption_unit(
    loaded: list[tuple[Entry, str | Picture | Exception]], captioner: Captioner, cache: CaptionCache
) -> list[tuple[Any, ...]]:
    """The unit's rows. Each image that the cache does not know is described once, and then is in the cache."""
    pictures = {found.sha256: found for _, found in loaded if isinstance(found, Picture)}
    asked = [picture for sha256, picture in pictures.items() if cache.get(sha256) is None]
    answers = dict(zip((p.sha256 for p in asked), captioner.caption(asked) if asked else (), strict=True))
    cache.add({sha256: text for sha256, text in answers.items() if isinstance(text, str)})
    rows = []
    for entry, found in loaded:
        written = entry.value if isinstance(entry.value, str) else None
        sha256 = found.sha256 if isinstance(found, Picture) else found if isinstance(found, str) else None
        text = cache.get(sha256) if sha256 is not None else None
        reason = None if text is not None else str(answers[sha256] if sha256 is not None else found)
        rows.append((entry.row, entry.entry, entry.item_id, written, sha256, text, reason))
    return rows


def _collect(config: CaptionsConfig, column: Column, units: list[Path], out: Path) -> StageResult:
    """Check the texts of all units, and write fields.parquet and quarantine.parquet."""
    rows = pl.concat([read_parquet(unit) for unit in units]) if units else pl.DataFrame(schema=_UNIT_SCHEMA)
    if not rows.height:
        raise DataError(f"{column.file}: expected images in column {config.images.column!r}, found none")
    captions: dict[str, list[str]] = {}
    rejected: list[tuple[str, int, str, str]] = []
    for row in rows.iter_rows(named=True):
        reason = row["reason"]
        if reason is None:
            try:
                caption = check_caption(row["text"], config.checks)
                captions.setdefault(row["item_id"], []).append(caption)
                continue
            except CaptionError as error:
                reason = str(error)
        shown = orjson.dumps({name: row[name] for name in ("item_id", "entry", "image", "image_sha256", "text")})
        rejected.append((column.file, row["row"] + 1, reason, shown.decode()))
    quarantined = pl.DataFrame(rejected, schema=QUARANTINE_SCHEMA, orient="row")
    fields = [(item_id, -1, list(dict.fromkeys(texts))) for item_id, texts in sorted(captions.items())]
    write_parquet(out / "fields.parquet", pl.DataFrame(fields, schema=_FIELDS_SCHEMA, orient="row"))
    write_parquet(out / "quarantine.parquet", quarantined)
    counts = {
        "images": rows.height,
        "distinct_images": rows["image_sha256"].drop_nulls().n_unique(),
        "captions": rows.height - quarantined.height,
        "items_with_captions": len(fields),
        "rows_of_unknown_items": column.item_ids.null_count(),
    }
    return StageResult(counts, reasons_of(quarantined), _warnings(rows.height, quarantined))


def _warnings(n_images: int, quarantined: pl.DataFrame) -> list[str]:
    if quarantined.height <= _WARN_SHARE * n_images:
        return []
    kind, n_kind = next(iter(reasons_of(quarantined).items()))
    return [f"{quarantined.height:,} of {n_images:,} images have no caption, {n_kind:,} for this: {kind}"]


def _stats(config: CaptionsConfig, column: Column) -> str:
    """A hash of every text of the column and, where it names a file, of the file's size and time of change."""
    digest = hashlib.sha256()
    for _, start in slices(column.n_rows, 4096):
        for entry in column.entries(start, 4096):
            known: list[str | int] = [entry.item_id, entry.entry]
            if isinstance(entry.value, str):
                known += [entry.value, *_stat(config, entry.value)]
            digest.update(orjson.dumps(known))
    return digest.hexdigest()


def _stat(config: CaptionsConfig, value: str) -> list[int]:
    if is_url(value) or config.images.folder is None:
        return []
    try:
        found = file_of(value, config.images).stat()
    except (ImageError, OSError):
        return []
    return [found.st_size, found.st_mtime_ns]
