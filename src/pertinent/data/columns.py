"""A column that a stage reads in slices: of the items, or of a table of the user's with a row an item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from pydantic import Field

from pertinent.config import Config
from pertinent.data.source import nearest
from pertinent.data.tables import kind_of, read_table
from pertinent.errors import ConfigError, DataError


class ColumnConfig(Config):
    """Where a column lies. An item may have several rows."""

    table: Path | None = Field(
        default=None, description="Parquet, JSONL or CSV with a row an item; default: the items of the data stage"
    )
    id_column: str = Field(default="item_id", description="the table's column of item ids")


@dataclass(frozen=True)
class Entry:
    """One value of a column. row: 0-based in the table. entry: position in the row's list, 0 where it is no list."""

    row: int
    entry: int
    item_id: str
    value: str | bytes


@dataclass(frozen=True)
class Column:
    """A column of texts or bytes (also in lists, or as ``{bytes, path}``, the form of Hugging Face image columns).

    file: the name shown in messages. table: the user's table that it is of; None where it is of the items.
    holds_bytes: whether it may hold bytes, not texts alone.
    item_ids: String, of every row, null where the row's item is not among the items.
    """

    file: str
    table: Path | None
    holds_bytes: bool
    item_ids: pl.Series
    _values: pl.LazyFrame

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return self.item_ids.len()

    def entries(self, start: int, n_rows: int) -> list[Entry]:
        """The values of rows start .. start + n_rows - 1 that belong to an item; empty values are left out."""
        ids = self.item_ids.slice(start, n_rows)
        if ids.null_count() == ids.len():
            return []
        values = self._values.slice(start, n_rows).collect().to_series()
        found = []
        for offset, (item_id, value) in enumerate(zip(ids, values, strict=True)):
            if item_id is not None:
                parts = enumerate(_parts(value))
                found += [Entry(start + offset, k, item_id, part) for k, part in parts]
        return found


def open_column(config: ColumnConfig, column: str, items: pl.DataFrame, items_file: Path, key: str) -> Column:
    """Open a column for reading. Parquet is read slice by slice, so it may be larger than memory.

    items: with item_id. items_file: their Parquet file, read where the config names no table. key: the config key that
    names the column, for messages. Raises DataError for a missing file or id column, ConfigError for a missing or
    unfit column.
    """
    file = config.table or items_file
    frame = _scan(file)
    schema = frame.collect_schema()
    if config.id_column not in schema:
        near = nearest(config.id_column, list(schema))
        raise DataError(f"{file}: missing column {config.id_column!r}; nearest present column: {near!r}")
    if column not in schema:
        near = nearest(column, list(schema))
        raise ConfigError(f"{key}: {file} has no column {column!r}; nearest present column: {near!r}")
    if not _fits(schema[column]):
        raise ConfigError(f"{key}: expected {column!r} to hold texts or bytes, found {schema[column]}")
    ids = frame.select(pl.col(config.id_column).cast(pl.String).str.strip_chars().alias("item_id")).collect()
    known = ids.select(pl.when(pl.col("item_id").is_in(items["item_id"].implode())).then(pl.col("item_id")))
    if known.height and known["item_id"].null_count() == known.height:
        raise DataError(
            f"{file}: expected ids of items in {config.id_column!r}, found none, such as {ids.item(0, 0)!r}"
        )
    holds_bytes = "Binary" in str(schema[column])  # at whatever depth
    return Column(file.name, config.table, holds_bytes, known["item_id"], frame.select(column))


def slices(n_rows: int, size: int) -> Iterator[tuple[int, int]]:
    """(index, first row) of each slice of ``size`` rows."""
    return enumerate(range(0, n_rows, size))


def _scan(file: Path) -> pl.LazyFrame:
    if kind_of(file) != ".parquet":
        raw = read_table(file)
        if raw.broken.height:  # rows are told apart by their number, and a broken one has none
            line, reason = raw.broken.row(0)[1:3]
            raise DataError(f"{file}:{line}: {reason}")
        return raw.rows.lazy()
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        frame = pl.scan_parquet(file, glob=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return frame


def _fits(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List):
        return _fits(dtype.inner)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return bool({"bytes", "path"} & {field.name for field in dtype.fields})
    return dtype in (pl.String, pl.Binary)


def _parts(value: Any) -> list[str | bytes]:
    """The non-empty texts and bytes in a value, in order."""
    if value is None:
        return []
    if isinstance(value, bytes):
        return [value] if value else []
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):  # a list of JSONL, which is read as JSON text
            try:
                listed = orjson.loads(text)
            except orjson.JSONDecodeError:
                return [text]
            return [part for one in listed if isinstance(one, str) for part in _parts(one)]
        return [text] if text else []
    if isinstance(value, dict):
        return _parts(value.get("bytes")) or _parts(value.get("path"))
    return [part for one in value for part in _parts(one)]
