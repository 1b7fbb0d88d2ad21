"""Rows that break the contract go through here: set aside with a reason, never dropped in silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from pertinent.data.source import QUARANTINE_SCHEMA, Table


class Sieve:
    """The rows of a table that still stand, and those set aside.

    frame: the standing rows under our names, with ``_row`` and ``_line``. A reason reads "WHAT must be EXPECTED, got
    FOUND": rows are counted by what stands before ", got".
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.frame = table.frame()
        self._rejected: list[pl.DataFrame] = []

    def reject(self, broken: pl.Expr, reason: pl.Expr | str) -> int:
        """Set aside the rows where ``broken`` is true, each with its reason. Returns how many."""
        reasons = pl.lit(reason) if isinstance(reason, str) else reason
        marked = self.frame.with_columns(broken.fill_null(False).alias("_broken"))
        bad = marked.filter("_broken").select("_row", reasons.cast(pl.String).alias("reason"))
        if bad.height:
            self._rejected.append(bad)
            self.frame = marked.filter(~pl.col("_broken")).drop("_broken")
        return bad.height

    def convert(self, column: str, parse: Callable[[Any], Any], dtype: pl.DataType | type[pl.DataType]) -> None:
        """Replace a column by ``parse`` of each value; where it raises ValueError the row goes, with that message."""
        values: list[Any] = []
        problems: list[str | None] = []
        for value in self.frame[column].to_list():
            try:
                values.append(None if value is None else parse(value))
                problems.append(None)
            except ValueError as error:
                values.append(None)
                problems.append(f"{column} must be {error}")
        self.frame = self.frame.with_columns(
            pl.Series(column, values, dtype=dtype), pl.Series("_problem", problems, dtype=pl.String)
        )
        self.reject(pl.col("_problem").is_not_null(), pl.col("_problem"))
        self.frame = self.frame.drop("_problem")

    @property
    def quarantined(self) -> pl.DataFrame:
        """All rows set aside so far, unreadable ones included, in the order of the file."""
        parts = [self.table.broken, *(self.table.quarantine(rows) for rows in self._rejected)]
        return pl.concat(parts, how="vertical").cast(QUARANTINE_SCHEMA).sort("line", maintain_order=True)


def reasons_of(quarantined: pl.DataFrame) -> dict[str, int]:
    """Rows a reason, commonest first: the reasons without what was found. quarantined: with QUARANTINE_SCHEMA."""
    kinds = quarantined.select(_kind().alias("kind"))
    counts = kinds.group_by("kind").len().sort(["len", "kind"], descending=[True, False])
    return dict(counts.iter_rows())


def too_many_broken(
    table: Table, quarantined: pl.DataFrame, limit: float, tolerated: Sequence[str] = (), hint: str = ""
) -> list[str]:
    """The problem, in one line, if more than the share ``limit`` of the rows is set aside or none is left; else [].

    tolerated: kinds of reason that do not count towards the share. hint: ends the line where no row is left.
    """
    left = table.n_rows - quarantined.height
    counted = quarantined.filter(~_kind().is_in(list(tolerated)))
    share = counted.height / table.n_rows
    if left > 0 and share <= limit:
        return []
    shown = counted if counted.height else quarantined
    kind, n_kind = next(iter(reasons_of(shown).items()))
    first = shown.filter(_kind() == kind).row(0, named=True)
    example = f"{first['file']}:{first['line']}: {first['reason']}"
    if left <= 0:
        return [f"{example}; none of the {table.n_rows:,} rows can be used, {n_kind:,} for this reason{hint}"]
    return [
        f"{example}; {counted.height:,} of {table.n_rows:,} rows ({share:.1%}) break the contract, {n_kind:,} for this"
        f" reason, and at most {limit:.1%} may (data.max_quarantined)"
    ]


def _kind() -> pl.Expr:
    return pl.col("reason").str.split(", got ").list.first()
