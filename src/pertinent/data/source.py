"""What a reader hands on: raw tables that still know their file and line, and what is said about the data set."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl

from pertinent.data.splits import SplitBy
from pertinent.errors import DataError
from pertinent.types import Scale

QUARANTINE_SCHEMA = pl.Schema({"file": pl.String, "line": pl.Int64, "reason": pl.String, "row": pl.String})


@dataclass(frozen=True)
class Table:
    """Rows of one source file before any check.

    file: the name shown in messages. lines: i64, the 1-based line of each row (Parquet: the 1-based row).
    rows: one column a source column; text from CSV and JSONL (a nested JSON value as JSON text), typed from Parquet.
    columns: our column name -> the name in ``rows``. broken: rows that could not be read, with QUARANTINE_SCHEMA.
    n_rows: all rows of the file, broken ones included.
    """

    file: str
    lines: pl.Series
    rows: pl.DataFrame
    columns: Mapping[str, str]
    broken: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=QUARANTINE_SCHEMA))
    list_separator: str = "|"

    @property
    def n_rows(self) -> int:
        """Rows of the file, those that could not be read included."""
        return self.rows.height + self.broken.height

    def frame(self) -> pl.DataFrame:
        """The rows under our column names, with ``_row`` (index into ``rows``) and ``_line``."""
        mapped = [pl.col(theirs).alias(ours) for ours, theirs in self.columns.items()]
        return self.rows.select(mapped).with_columns(
            pl.int_range(self.rows.height, dtype=pl.Int64).alias("_row"), self.lines.alias("_line")
        )

    def quarantine(self, rejected: pl.DataFrame) -> pl.DataFrame:
        """The quarantine records of rejected rows. rejected: ``_row`` i64, ``reason`` str."""
        taken = rejected["_row"]
        documents = [as_json(row) for row in self.rows[taken].iter_rows(named=True)]
        return pl.DataFrame(
            {
                "file": [self.file] * rejected.height,
                "line": self.lines.gather(taken),
                "reason": rejected["reason"],
                "row": documents,
            },
            schema=QUARANTINE_SCHEMA,
        )


@dataclass(frozen=True)
class Source:
    """A data set as its reader found it. grades: the file's own grade values, lowest first.

    split_by: "words" where the reorderings of one query are to share a split.
    """

    name: str
    items: Table
    judgments: Table
    log: Table | None
    scale: Scale
    grades: tuple[Any, ...]
    attributes: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str = ""
    note: str = ""
    generated: bool = False
    split_by: SplitBy = "text"


def as_json(value: Any) -> str:
    """A value as JSON text; what JSON does not know (a date, say) as its plain text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")


def require_columns(
    file: str, columns: Mapping[str, str], required: Sequence[str], present: Sequence[str], section: str
) -> None:
    """Raise DataError for the first required column of ours without a column in the file, naming the nearest."""
    for name in required:
        if name not in columns:
            near = nearest(name, present)
            raise DataError(
                f"{file}: missing column {name!r}; nearest present column: {near!r}"
                f" (map it in the config: data.{section}.columns: {{{name}: {near}}})"
            )


def nearest(name: str, present: Sequence[str]) -> str:
    """The present name most like ``name``, ignoring case."""
    folded = {other.casefold(): other for other in present}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.0)
    return folded[found[0]] if found else ""
