"""Labels that were made before: found by query, hash of the text and teacher, in earlier folders of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_parquet

_KEY = ["query", "text_hash"]


def cached_labels(folders: Sequence[Path], pairs: pl.DataFrame, names: Sequence[str], teacher_id: str) -> pl.DataFrame:
    """The pairs that ``folders`` have labels of, with these: the columns of pairs, names (float32) and teacher.

    pairs: query, text_hash and more. A label of another teacher, text or scale is not taken; of several the first is.
    Raises DataError for a folder without shards, or a damaged one.
    """
    found, wanted = [], pairs.select(_KEY).unique()
    for folder in folders:
        shards = sorted(folder.glob("shard-*.parquet"))
        if not shards:
            raise DataError(f"{folder}: expected label shards (shard-*.parquet), found none (labels.cache)")
        for shard in shards:
            labels = read_parquet(shard)
            if set(names) <= set(labels.columns):
                known = labels.select(*_KEY, *names, "teacher").filter(pl.col("teacher") == teacher_id)
                found.append(known.join(wanted, on=_KEY, how="semi"))
    if not found:
        return pairs.head(0).with_columns(*[pl.lit(0.0, pl.Float32).alias(name) for name in names], teacher=pl.lit(""))
    labels = pl.concat(found).unique(_KEY, keep="first", maintain_order=True)
    return pairs.join(labels, on=_KEY, how="inner", maintain_order="left")
