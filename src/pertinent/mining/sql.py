"""Pieces of SQL: literals, and the expressions that turn written values into typed ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pertinent.mining.config import LOG_COLUMNS

MAX_LINE_BYTES = 2**26


def literal(value: Any) -> str:
    """A value as an SQL literal; a list or tuple as a list."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):  # from text: a bare 0.2 is a DECIMAL, whose arithmetic is another
        return f"'{value!r}'::DOUBLE"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return "'" + str(value).replace("'", "''") + "'"


def name_of(column: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def path_literal(file: Path) -> str:
    """A path as an SQL literal that DuckDB takes for that one file, whatever of *, ? and [ is in its name."""
    return literal(re.sub(r"[*?\[]", r"[\g<0>]", str(file)))


def scan(*files: Path, options: str = "") -> str:
    """The SQL that reads Parquet files."""
    return f"read_parquet([{', '.join(map(path_literal, files))}]{options})"


def moment(text: str) -> str:
    """The SQL of a written time as microseconds since 1970: ISO 8601, or seconds, ms or us since 1970 by size."""
    number = f"TRY_CAST({text} AS DOUBLE)"
    return f"CASE WHEN {number} IS NULL THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) ELSE {since_1970(number)} END"


def whole_position(text: str) -> str:
    """The SQL of a position: null where none is written, -1 where it is no whole number from 0."""
    number = f"TRY_CAST({text} AS DOUBLE)"
    good = f"{number} >= 0 AND {number} < 2147483648 AND {number} = floor({number})"
    return f"CASE WHEN {text} IS NULL THEN NULL WHEN {good} THEN {number}::INTEGER ELSE -1 END"


def json_lines(file: Path) -> str:
    """The SQL of the non-empty lines of a text file (.gz too): ``line``, "null" where it is no JSON, and ``whole``.

    whole: whether the line is a JSON object. A field of any other line is null.
    """
    options = "columns={'line': 'VARCHAR'}, delim='\x01', quote='', escape='', header=false, auto_detect=false"
    lines = f"read_csv({path_literal(file)}, {options}, max_line_size={MAX_LINE_BYTES})"
    checked = f"SELECT CASE WHEN json_valid(line) THEN line ELSE 'null' END AS line FROM {lines} WHERE trim(line) <> ''"
    return f"(SELECT line, coalesce(json_type(line) = 'OBJECT', false) AS whole FROM ({checked}))"


def json_text(field: str, document: str = "line") -> str:
    """The SQL of the text of a document's field: a name, or a path that begins with "$."."""
    path = field if field.startswith("$.") else f"$.{orjson.dumps(field).decode()}"
    return f"nullif(trim(json_extract_string({document}, {literal(path)})), '')"


def select_texts(texts: Mapping[str, str]) -> str:
    """The SQL of the relation's columns from the SQL of each as text. texts: by LOG_COLUMNS."""
    text = {name: f"nullif(trim({sql}), '')" for name, sql in texts.items()}
    typed = {
        "timestamp": f"{moment(text['timestamp'])} AS ts",
        "position": f"{whole_position(text['position'])} AS position",
        "dwell_s": f"TRY_CAST({text['dwell_s']} AS DOUBLE) AS dwell_s",
    }
    return ", ".join(typed.get(name, f"{text[name]} AS {name}") for name in LOG_COLUMNS)


def since_1970(number: str) -> str:
    """The SQL of a number as microseconds since 1970: seconds, ms or us by its size; null where it is none of them."""
    # As in pertinent.data.values: 1e11 s is the year 5138 and 1e11 ms is 1973.
    size = f"abs({number})"
    scaled = f"CASE WHEN {size} < 1e11 THEN {number} * 1e6 WHEN {size} < 1e14 THEN {number} * 1e3 ELSE {number} END"
    return f"CASE WHEN {size} < 1e17 THEN ({scaled})::BIGINT END"
