"""What the columns of an unknown table look like: the facts that `guess` decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pertinent.data import values
from pertinent.data.tables import kind_of, read_bytes, read_table, sniff_delimiter
from pertinent.errors import DataError

_MAX_DISTINCT_SHOWN = 30
_N_TIMED = 200


@dataclass(frozen=True)
class Column:
    """One column. values: its distinct values and their counts where they are few, else empty; unique: no value twice.

    filled: share of rows with a value. mean_length: characters. numeric, timed: whether all values are numbers, times.
    """

    name: str
    filled: float
    n_distinct: int
    unique: bool
    mean_length: float
    numeric: bool
    timed: bool
    listed: bool
    values: Mapping[str, int]


@dataclass(frozen=True)
class TableProfile:
    """One file. delimiter is empty unless it is CSV."""

    file: str
    n_rows: int
    n_broken: int
    delimiter: str
    encoding: str
    columns: tuple[Column, ...]
    rows: pl.DataFrame

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)


def profile_table(path: Path) -> TableProfile:
    """Read a whole table and describe its columns. Raises DataError where it cannot be read as a table."""
    kind = kind_of(path)
    encoding = "utf-8" if kind == ".parquet" else guess_encoding(read_bytes(path))
    raw = read_table(path, encoding=encoding)
    delimiter = ""
    if kind in (".csv", ".tsv"):
        delimiter = "\t" if kind == ".tsv" else sniff_delimiter(read_bytes(path).decode(encoding))
    columns = tuple(_profile(raw.rows, name) for name in raw.rows.columns)
    return TableProfile(raw.file, raw.rows.height, raw.broken.height, delimiter, encoding, columns, raw.rows)


def guess_encoding(data: bytes) -> str:
    """utf-8, utf-16 (by its mark), else cp1252 or, with bytes that cp1252 does not know, latin-1."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for encoding in ("utf-8", "cp1252"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def as_texts(rows: pl.DataFrame, name: str) -> pl.Series:
    """The values of a column as stripped text, without the missing ones."""
    if isinstance(rows.schema[name], pl.List | pl.Struct | pl.Array):
        return pl.Series(name, [], dtype=pl.String)
    return rows.select(values.text(rows, name)).to_series().drop_nulls()


def _profile(rows: pl.DataFrame, name: str) -> Column:
    nested = isinstance(rows.schema[name], pl.List | pl.Struct | pl.Array)
    found = as_texts(rows, name)
    n, n_distinct = found.len(), found.n_unique()
    counts = dict(found.value_counts(sort=True).iter_rows()) if 0 < n_distinct <= _MAX_DISTINCT_SHOWN else {}
    filled = n if not nested else rows.height - rows[name].null_count()
    mean_length = found.str.len_chars().mean() if n else 0.0
    return Column(
        name=name,
        filled=filled / max(rows.height, 1),
        n_distinct=n_distinct,
        unique=n == rows.height and n_distinct == n,
        mean_length=float(mean_length) if isinstance(mean_length, int | float) else 0.0,
        numeric=n > 0 and found.cast(pl.Float64, strict=False).null_count() == 0,
        timed=_is_timed(found.head(_N_TIMED)),
        listed=nested or (n > 0 and bool(found.str.starts_with("[").all())),
        values=counts,
    )


def _is_timed(found: pl.Series) -> bool:
    """Whether all values are dates or times; plain numbers count from the year 2001 in seconds on."""
    if found.len() == 0:
        return False
    numbers = found.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        return bool((numbers > 1e9).all())
    frame = found.alias("timestamp").to_frame()
    _, broken = values.timestamps(frame, "timestamp")
    return not bool(frame.select(broken).to_series().any())


def profile_folder(folder: Path) -> tuple[list[TableProfile], dict[str, str]]:
    """The tables of a folder by file name, and what stands between us and each file that could not be read."""
    tables: list[TableProfile] = []
    unread: dict[str, str] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            kind_of(path)
        except DataError:
            continue
        try:
            tables.append(profile_table(path))
        except DataError as error:
            unread[path.name] = str(error)
    return tables, unread
