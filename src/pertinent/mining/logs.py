"""A log's files as one SQL relation of typed columns; CSV, JSONL and UBI are first turned into Parquet, file by file.

The relation (LOG_RELATION): ts (BIGINT, microseconds since 1970, UTC), query, item_id, position (INTEGER, -1: no whole
number from 0), action (as the file writes it), user, session, dwell_s (DOUBLE), broken (a row that cannot be read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pertinent.data.source import nearest
from pertinent.data.tables import SUFFIXES, is_table, kind_of
from pertinent.errors import DataError
from pertinent.mining.config import LOG_COLUMNS, LogConfig
from pertinent.mining.csv_files import csv_columns, csv_rows, read_csv_table
from pertinent.mining.engine import Engine
from pertinent.mining.sql import (
    json_lines,
    json_text,
    moment,
    name_of,
    scan,
    select_texts,
    since_1970,
    whole_position,
)
from pertinent.mining.ubi import is_ubi, stage_ubi

REQUIRED = ("query", "item_id", "action")
_JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Log:
    """relation: SQL to select from. files: what was read. format: own or ubi. columns: which of ours the log has.

    may_break: whether there may be rows that cannot be read.
    """

    relation: str
    files: tuple[Path, ...]
    format: str
    columns: frozenset[str]
    may_break: bool


def log_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files of a log, those of a folder by name. Raises DataError for a path that is not there or has no table."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and is_table(file))
            if not inside:
                raise DataError(f"{path}: expected files ending in {', '.join(SUFFIXES)} (or .gz), found none")
            found += inside
        elif path.is_file():
            kind_of(path)
            found.append(path)
        else:
            raise DataError(f"{path}: no such file (the log)")
    return tuple(dict.fromkeys(found))


def open_log(engine: Engine, config: LogConfig, files: Sequence[Path], work: Path) -> Log:
    """The log as a relation. work: where files other than Parquet are staged; whole ones found there are kept.

    Raises DataError for a missing column or a file that cannot be read.
    """
    parquet = [file for file in files if kind_of(file) == ".parquet"]
    texts = [file for file in files if file not in parquet]
    ubi = [file for file in texts if _reads_as_ubi(file, config)]
    if ubi and len(ubi) < len(files):
        other = next(file for file in files if file not in ubi)
        raise DataError(f"{other}: expected UBI events or queries as {ubi[0].name} holds, found another kind of log")
    if ubi:
        staged = stage_ubi(engine, config, ubi, work)
        return Log(f"(SELECT * FROM {scan(*staged)})", tuple(files), "ubi", frozenset(LOG_COLUMNS), True)
    parts = [_parquet_relation(engine, config, parquet)] if parquet else []
    columns = {name for _, names in parts for name in names}
    staged = []
    for number, file in enumerate(texts):
        target = work / f"staged-{number:05d}.parquet"
        columns |= _stage(engine, config, file, target)
        staged.append(target)
    relations = [relation for relation, _ in parts]
    relations += [f"SELECT * FROM {scan(*staged)}"] if staged else []
    return Log(f"({' UNION ALL '.join(relations)})", tuple(files), "own", frozenset(columns), bool(texts))


def _reads_as_ubi(file: Path, config: LogConfig) -> bool:
    if config.format != "auto":
        return config.format == "ubi"
    return kind_of(file) in _JSON and is_ubi(file)


def _parquet_relation(engine: Engine, config: LogConfig, files: Sequence[Path]) -> tuple[str, set[str]]:
    source = scan(*files, options="" if len(files) == 1 else ", union_by_name=true")
    types = {row[0]: row[1] for row in engine.rows(f"DESCRIBE SELECT * FROM {source}")}
    ours = _column_map(files[0], config, list(types))
    select = [_typed(name, ours.get(name), types) for name in LOG_COLUMNS]
    return f"SELECT {', '.join(select)}, false AS broken FROM {source}", set(ours)


def _column_map(file: Path, config: LogConfig, present: list[str]) -> dict[str, str]:
    """Our name -> the file's, for the columns that it has."""
    ours = {name: config.columns.get(name, name) for name in LOG_COLUMNS}
    for name, theirs in ours.items():
        if theirs not in present and (name in REQUIRED or name in config.columns):
            raise DataError(
                f"{file}: expected a column {theirs!r} ({name}), found none; nearest: {nearest(theirs, present)!r}"
                f" (map it: log.columns: {{{name}: ...}})"
            )
    return {name: theirs for name, theirs in ours.items() if theirs in present}


def _typed(name: str, column: str | None, types: Mapping[str, str]) -> str:
    """The SQL of one of our columns from a typed one."""
    alias = "ts" if name == "timestamp" else name
    if column is None:
        empty = {"timestamp": "BIGINT", "position": "INTEGER", "dwell_s": "DOUBLE"}.get(name, "VARCHAR")
        return f"NULL::{empty} AS {alias}"
    value, dtype = name_of(column), types[column]
    numeric = dtype in ("FLOAT", "DOUBLE") or "INT" in dtype or dtype.startswith("DECIMAL")
    if name == "timestamp":
        if numeric:
            value = since_1970(f"{value}::DOUBLE")
        else:
            value = moment(value) if dtype == "VARCHAR" else f"epoch_us({value}::TIMESTAMPTZ)"
    elif name == "position":
        whole = f"CASE WHEN {value} BETWEEN 0 AND 2147483647 THEN TRY_CAST({value} AS INTEGER) WHEN {value} IS NOT NULL THEN -1 END"
        value = whole if "INT" in dtype else whole_position(value)
    elif name == "dwell_s":
        value = f"TRY_CAST({value} AS DOUBLE)"
    elif dtype in ("FLOAT", "DOUBLE"):  # an id that pandas wrote as 12.0
        value = f"CASE WHEN {value} = floor({value}) THEN {value}::BIGINT::VARCHAR ELSE {value}::VARCHAR END"
    elif dtype != "VARCHAR":
        value = f"{value}::VARCHAR"
    return f"{value} AS {alias}"


def _stage(engine: Engine, config: LogConfig, file: Path, target: Path) -> set[str]:
    """Turn a CSV or JSONL file into Parquet; returns our columns that it can have."""
    what = f"read {file.name}"
    if kind_of(file) in _JSON:
        if not target.exists():
            engine.write(target, _jsonl_rows(config, file), what)
        return set(LOG_COLUMNS)
    names, delimiter = csv_columns(file)
    ours = _column_map(file, config, names)
    if not target.exists():
        texts = {name: name_of(ours[name]) if name in ours else "NULL::VARCHAR" for name in LOG_COLUMNS}
        select = f"{select_texts(texts)}, false AS broken"
        n_broken = read_csv_table(engine, "staged", select, csv_rows(names, delimiter, file), what)
        nulls = select_texts(dict.fromkeys(LOG_COLUMNS, "NULL::VARCHAR"))
        engine.write(target, f"FROM staged UNION ALL SELECT {nulls}, true AS broken FROM range({n_broken})")
        engine.rows("DROP TABLE staged")
    return set(ours)


def _jsonl_rows(config: LogConfig, file: Path) -> str:
    texts = {name: json_text(config.columns.get(name, name)) for name in LOG_COLUMNS}
    return f"SELECT {select_texts(texts)}, NOT whole AS broken FROM {json_lines(file)}"
