"""A stranger's table of pairs, CSV, JSONL or Parquet: one query and item a row, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pertinent.data import values
from pertinent.data.tables import read_table
from pertinent.errors import DataError


def read_pairs(file: Path, numbers: Sequence[str] = ()) -> pl.DataFrame:
    """The columns of ``file`` as they are, but ``query`` and ``item_id`` as text (a number too) and ``numbers`` as f64.

    numbers: columns that are read as numbers where they are there; an empty value is null.
    Raises DataError naming the file, and the line where there is one, if the table cannot be read, has no column query
    or item_id, or a value of ``numbers`` is no number.
    """
    table = read_table(file)
    if table.broken.height:
        line, reason = table.broken.row(0)[1:3]
        raise DataError(f"{file}:{line}: {reason}")
    rows = table.rows
    absent = [column for column in ("query", "item_id") if column not in rows.columns]
    if absent:
        raise DataError(f"{file}: expected the columns query and item_id, found {', '.join(rows.columns)}")
    read = [values.text(rows, column) for column in ("query", "item_id")]
    for column in numbers:
        if column in rows.columns:
            number, broken = values.number(rows, column)
            _check(file, table.lines, rows[column], rows.select(broken.alias("broken"))["broken"])
            read.append(number)
    return rows.with_columns(read)


def _check(file: Path, lines: pl.Series, column: pl.Series, broken: pl.Series) -> None:
    wrong = broken.fill_null(False).arg_true()
    if wrong.len():
        row = int(wrong[0])
        raise DataError(f"{file}:{lines[row]}: {column.name} must be a number, got {column[row]!r}")
