"""One table from a CSV, TSV, JSONL or Parquet file (also .gz), each row with the line it stands on.

CSV is read with Python's csv module, not a faster reader, for it knows on which line a row begins even when quoted
fields run over several lines: a million rows take a few seconds.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from pertinent.data.source import QUARANTINE_SCHEMA, as_json
from pertinent.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
MAX_FIELD_CHARS = 2**24
_SNIFFED_RECORDS = 50


@dataclass(frozen=True)
class RawTable:
    """A file's rows: ``lines`` i64, ``rows`` a column a field, ``broken`` the unreadable rows as quarantine records."""

    file: str
    lines: pl.Series
    rows: pl.DataFrame
    broken: pl.DataFrame


def read_table(path: Path, delimiter: str | None = None, encoding: str = "utf-8") -> RawTable:
    """Read a table by its file name's ending.

    delimiter: of CSV; None = sniffed among comma, semicolon, tab and bar (a .tsv is read with tab).
    Raises DataError if the file is missing, empty, without rows, of an unknown kind or not in ``encoding``.
    """
    kind = kind_of(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if kind == ".parquet":
        table = _read_parquet(path)
    else:
        text = read_text(path, encoding)
        if not text.strip():
            raise DataError(f"{path}: empty file")
        if kind in (".csv", ".tsv"):
            table = _read_csv(path, text, "\t" if kind == ".tsv" and delimiter is None else delimiter)
        else:
            table = _read_jsonl(path, text)
    if table.rows.is_empty():
        raise DataError(_why_no_rows(path, kind, table.broken))
    return table


def is_table(path: Path) -> bool:
    """Whether a file's name says that it is a table that ``read_table`` reads."""
    return _suffix(path) in SUFFIXES


def kind_of(path: Path) -> str:
    """The ending that says how to read a file, without .gz. Raises DataError for an unknown one."""
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: expected a file ending in {', '.join(SUFFIXES)} (or .gz), found {suffix or 'none'!r}")
    return suffix


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def read_text(path: Path, encoding: str) -> str:
    """The decoded text of a file, a byte order mark removed. Raises DataError naming the first wrong byte."""
    data = read_bytes(path)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: expected {encoding} text, found byte {data[error.start]:#04x} at offset {error.start};"
            " set the table's encoding in the config, cp1252 or latin-1 perhaps"
        ) from None


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, decompressed if it ends in .gz. Raises DataError if it cannot be read."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.name.endswith(".gz") else data
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def sniff_delimiter(text: str) -> str:
    """The delimiter under which most of the first records have the header's number of fields; a comma in doubt."""

    def evenness(delimiter: str) -> tuple[float, int]:
        widths = [len(record) for record in _first_records(text, delimiter) if record]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(DELIMITERS, key=evenness)


def _first_records(text: str, delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for record in reader:
            records.append(record)
            if len(records) == _SNIFFED_RECORDS:
                break
    except csv.Error:
        pass  # a field over the limit under a wrong delimiter: what was read till there decides
    return records


def _read_csv(path: Path, text: str, delimiter: str | None) -> RawTable:
    with _field_limit(MAX_FIELD_CHARS):
        records = _csv_records(list(io.StringIO(text, newline="")), delimiter or sniff_delimiter(text))
        _, header, problem = next(records)
        if problem:
            raise DataError(f"{path}:1: expected a header line of column names, found no valid CSV: {problem}")
        names = _header_names(path, header)
        lines: list[int] = []
        rows: list[list[str]] = []
        broken: list[tuple[str, int, str, str]] = []
        width = len(names)
        for line, record, problem in records:
            if problem:
                broken.append((path.name, line, problem, as_json(record[0])))
            elif len(record) != width:
                reason = f"row must have {width} fields, got {len(record)}"
                broken.append((path.name, line, reason, as_json(record)))
            else:
                lines.append(line)
                rows.append(record)
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    frame = pl.DataFrame([pl.Series(n, list(c), dtype=pl.String) for n, c in zip(names, columns, strict=True)])
    return _raw(path, lines, frame, broken)


@contextmanager
def _field_limit(n_chars: int) -> Iterator[None]:
    """Let csv, whose limit is one for the whole process, read fields of up to ``n_chars``."""
    before = csv.field_size_limit(n_chars)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_records(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Each record but blank ones: the line it begins on, its fields, "". lines: with their ends, the header first.

    Where a record is not valid CSV, or seems to have run on from a stray quote over rows, its first line is given alone,
    with a reason, and reading starts anew on the next line: one quote may cost one row.
    """
    width = start = 0
    while start < len(lines):
        reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), delimiter=delimiter, strict=True)
        first, problem = start, ""
        try:
            for fields in reader:
                end = start + reader.line_num
                if end - first > 1 and _ran_over_rows(lines[first:end], fields, delimiter, width):
                    problem = "row must be valid CSV, got a quoted field that runs on over the next rows"
                    break
                if fields:
                    yield first + 1, fields, ""
                    width = width or len(fields)
                first = end
        except csv.Error as error:
            problem = _why_no_record(error)
        if not problem:
            return
        yield first + 1, [lines[first].rstrip("\r\n")], problem
        start = first + 1


def _ran_over_rows(lines: Sequence[str], fields: list[str], delimiter: str, width: int) -> bool:
    """Whether a record over several lines is a stray quote and the rows after it, not a text with line breaks.

    width: fields a row of this table has, 0 for the header. So many fields are no proof of a sound record, for a second
    stray quote may end what the first began; then every line is like a row.
    """
    if all(_is_like_row(line, delimiter, width) for line in lines if line.strip()):
        return True
    return len(fields) != width and any(_is_like_row(line, delimiter, width) for line in lines[1:-1])


def _is_like_row(line: str, delimiter: str, width: int) -> bool:
    """Whether a line, parted at each delimiter, is as wide as a row. In prose a blank follows a comma: not in rows."""
    cells = line.split(delimiter)
    return width > 1 and len(cells) == width and not any(cell.startswith(" ") for cell in cells[1:])


def _why_no_record(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "row must be valid CSV, got a quoted field that is never closed"
    if "field larger" in str(error):
        return f"row must have fields of at most {MAX_FIELD_CHARS:,} characters, got a longer one"
    return f"row must be valid CSV, got {error}"


def _header_names(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() or f"column_{k}" for k, name in enumerate(header, start=1)]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{path}:1: expected different column names, found {repeated[0]!r} more than once")
    return names


def _read_jsonl(path: Path, text: str) -> RawTable:
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    broken: list[tuple[str, int, str, str]] = []
    for line, source in enumerate(text.split("\n"), start=1):
        if not source.strip():
            continue
        try:
            row = orjson.loads(source)
        except orjson.JSONDecodeError as error:
            broken.append((path.name, line, f"row must be a JSON object, got {error}", as_json(source)))
            continue
        if isinstance(row, dict):
            lines.append(line)
            rows.append(row)
        else:
            broken.append((path.name, line, f"row must be a JSON object, got {type(row).__name__}", as_json(row)))
    frame = frame_of(rows)
    return _raw(path, lines, frame, broken)


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """JSON objects as a frame of text, a column a key: a nested value as JSON text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame([pl.Series(n, [_plain(row.get(n)) for row in rows], dtype=pl.String) for n in names])


def _plain(value: Any) -> str | None:
    """A JSON value as text: strings as they are, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # an id that pandas wrote as 12.0
    return orjson.dumps(value).decode()


def _read_parquet(path: Path) -> RawTable:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return _raw(path, range(1, frame.height + 1), frame, [])


def _raw(path: Path, lines: list[int] | range, rows: pl.DataFrame, broken: list[tuple[str, int, str, str]]) -> RawTable:
    records = pl.DataFrame(broken, schema=QUARANTINE_SCHEMA, orient="row")
    return RawTable(path.name, pl.Series("line", lines, dtype=pl.Int64), rows, records)


def _why_no_rows(path: Path, kind: str, broken: pl.DataFrame) -> str:
    if broken.height:
        line, reason = broken.row(0)[1:3]
        return f"{path}:{line}: none of the {broken.height} rows can be read; first: {reason}"
    return f"{path}: no rows below the header" if kind in (".csv", ".tsv") else f"{path}: no rows"
