"""CSV files as an SQL relation of text columns, read as written: nothing is guessed but the delimiter, from the head."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path

from pertinent.data.tables import sniff_delimiter
from pertinent.errors import DataError
from pertinent.files import reason_of
from pertinent.mining.engine import Engine
from pertinent.mining.sql import MAX_LINE_BYTES, literal, path_literal

_HEAD_BYTES = 2**18


def csv_columns(file: Path) -> tuple[list[str], str]:
    """The names of the columns and the delimiter. Raises DataError for a file without a header or not in UTF-8."""
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file}: cannot be read: {reason_of(error) if isinstance(error, OSError) else error}"
        ) from None
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff")
    if len(head) == _HEAD_BYTES:
        lines = lines[: lines.rfind("\n") + 1] or lines
    if not lines.strip():
        raise DataError(f"{file}: empty file")
    delimiter = "\t" if file.name.removesuffix(".gz").endswith(".tsv") else sniff_delimiter(lines)
    names = [name.strip() for name in next(csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter))]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise DataError(f"{file}:1: expected different column names, found {repeated[0]!r} more than once")
    return names, delimiter


def csv_rows(names: list[str], delimiter: str, file: Path) -> str:
    """The SQL of the rows, every column a text; rows that cannot be read go to the table ``reject_errors``."""
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    dialect = f"delim={literal(delimiter)}, quote='\"', escape='\"', header=true, auto_detect=false"
    return (
        f"read_csv({path_literal(file)}, columns={{{columns}}}, {dialect}, ignore_errors=true, store_rejects=true,"
        f" max_line_size={MAX_LINE_BYTES})"
    )


def read_csv_table(engine: Engine, table: str, select: str, rows: str, what: str) -> int:
    """Make ``table`` of ``SELECT select FROM rows``; returns how many rows of the file could not be read."""
    for rejects in ("reject_errors", "reject_scans"):
        engine.rows(f"DROP TABLE IF EXISTS {rejects}")
    engine.table(table, f"SELECT {select} FROM {rows}", what)
    return int(engine.row("SELECT count(*) FROM (SELECT DISTINCT file_id, line FROM reject_errors)")[0])
