"""A stranger's table of pairs, CSV, JSONL or Parquet: one query and item a row, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from pertinent.data import values
from pertinent.data.tables import read_table
from pertinent.errors import DataError


def read_pairs(file: Path, numbers: Sequence[str] = (), *, by_id: bool = False) -> pl.DataFrame:
    """The columns of ``file`` as they are, but queries and items as text (a number too) and ``numbers`` as f64.

    numbers: columns that are read as numbers where they are there, ``*`` standing for anything; an empty value is null.
    by_id: whether a column ``query_id`` may stand in for ``query``.
    Raises DataError naming the file, and the line where there is one, if the table cannot be read, has no query or
    item_id, one of them is empty, or a value of ``numbers`` is no number.
    """
    table = read_table(file)
    if table.broken.height:
        line, reason = table.broken.row(0)[1:3]
        raise DataError(f"{file}:{line}: {reason}")
    rows = table.rows
    queries = [column for column in ("query", *(["query_id"] if by_id else [])) if column in rows.columns]
    if not queries or "item_id" not in rows.columns:
        expected = "item_id and query or query_id" if by_id else "query and item_id"
        raise DataError(f"{file}: expected the columns {expected}, found {', '.join(rows.columns)}")
    read = rows.with_columns(values.text(rows, column) for column in (*queries, "item_id"))
    for column in (*queries, "item_id"):
        if read[column].null_count():
            line = table.lines[int(read[column].is_null().arg_true()[0])]
            raise DataError(f"{file}:{line}: {column} must not be empty")
    for column in rows.columns:
        if any(fnmatchcase(column, pattern) for pattern in numbers):
            number, broken = values.number(rows, column)
            _check(file, table.lines, rows[column], rows.select(broken.alias("broken"))["broken"])
            read = read.with_columns(number)
    return read


def _check(file: Path, lines: pl.Series, column: pl.Series, broken: pl.Series) -> None:
    wrong = broken.fill_null(False).arg_true()
    if wrong.len():
        row = int(wrong[0])
        raise DataError(f"{file}:{lines[row]}: {column.name} must be a number, got {column[row]!r}")
