"""The label shards of a folder, read block by block, so that they may be larger than memory; and judged rows as labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from pertinent.errors import DataError
from pertinent.files import reason_of

BLOCK_ROWS = 65_536  # read, checked and turned into features at a time


def label_files(folder: Path) -> list[Path]:
    """shard-*.parquet, or else every Parquet file, in order of name. Raises DataError where there is none."""
    files = sorted(folder.glob("shard-*.parquet")) or sorted(folder.glob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: expected label shards (shard-*.parquet), found none")
    return files


def label_blocks(folder: Path, names: tuple[str, ...], block_rows: int = BLOCK_ROWS) -> Iterator[pl.DataFrame]:
    """The rows of all shards in order, in blocks of block_rows and a last one of the rest.

    Columns: query, item_id (String), the probabilities ``names`` (Float32), weight (Float64, 1 where a shard has none).
    Raises DataError for a shard that cannot be read, and, naming the first such row of the folder, where a row is no
    distribution or its weight no number of 0 or more.
    """
    held: list[pl.DataFrame] = []
    n_held = n_before = 0
    for file in label_files(folder):
        for piece in _pieces(file, names, block_rows):
            _check(piece, names, folder, n_before)
            n_before += piece.height
            held.append(piece.with_columns(pl.col(names).cast(pl.Float32)))
            n_held += piece.height
            while n_held >= block_rows:
                joined = pl.concat(held)
                yield joined.head(block_rows)
                held, n_held = [joined.slice(block_rows)], n_held - block_rows
    if n_held:
        yield pl.concat(held)


def _pieces(file: Path, names: tuple[str, ...], rows: int) -> Iterator[pl.DataFrame]:
    try:
        schema = pl.read_parquet_schema(file)
        absent = [name for name in ("query", "item_id", *names) if name not in schema]
        if absent:
            raise DataError(f"{file}: expected the columns query, item_id, {', '.join(names)}, found no {absent[0]}")
        weight = pl.col("weight") if "weight" in schema else pl.lit(1.0).alias("weight")
        columns = [pl.col("query", "item_id").cast(pl.String), pl.col(names).cast(pl.Float64), weight.cast(pl.Float64)]
        scan = pl.scan_parquet(file).select(columns)
        n_rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        for start in range(0, n_rows, rows):
            # A slice reads the row groups that it touches, no more.
            yield scan.slice(start, rows).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(f"{file}: not a readable Parquet file: {reason}") from None


def _check(labels: pl.DataFrame, names: tuple[str, ...], folder: Path, n_before: int) -> None:
    right = ((pl.sum_horizontal(names) - 1).abs() < 1e-3) & (pl.min_horizontal(names) >= 0)
    right &= (pl.col("weight") >= 0) & pl.col("weight").is_finite()
    for name in ("query", "item_id", *names):
        right &= pl.col(name).is_not_null()
    wrong = labels.select(right.fill_null(False).not_().alias("wrong"))["wrong"].arg_true()
    if wrong.len():
        row = labels.row(int(wrong[0]), named=True)
        found = ", ".join(f"{name} {row[name]}" for name in (*names, "weight"))
        raise DataError(
            f"{folder}: labels, row {n_before + int(wrong[0])}: expected a query, an item_id, probabilities that sum to 1 and "
            f"a weight of 0 or more, found {found}"
        )


def human_rows(judgments: pl.DataFrame, names: tuple[str, ...], weight: float) -> pl.DataFrame:
    """Judged training pairs as rows of `label_blocks`: all probability on the grade, each with this weight."""
    train = judgments.filter(pl.col("split") == "train")
    columns = [(pl.col("grade") == k).cast(pl.Float32).alias(name) for k, name in enumerate(names)]
    return train.select(pl.col("query", "item_id").cast(pl.String), *columns, pl.lit(weight).alias("weight"))
