"""Rows of logs for the tests of mining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.data.splits import split_of

Rows = Sequence[dict[str, Any]]
LOG = {
    "timestamp": pl.String,
    "query": pl.String,
    "item_id": pl.String,
    "position": pl.Int64,
    "action": pl.String,
    "user": pl.String,
}


def of_split(split: str, n: int, prefix: str = "thing") -> list[str]:
    """The first n queries of a split by the rule."""
    found = (f"{prefix} {k}" for k in range(10_000))
    return [query for query in found if split_of(query) == split][:n]


def write_log(rows: Rows, path: Path) -> Path:
    extra = {name: pl.Float64 if name == "dwell_s" else pl.String for row in rows for name in row if name not in LOG}
    kept = {name: dtype for name, dtype in {**LOG, **extra}.items() if any(name in row for row in rows)}
    pl.DataFrame([{name: row.get(name) for name in kept} for row in rows], schema=kept).write_parquet(path)
    return path


def row(
    query: str, item: int | str, action: str = "long_click", user: str | None = "u0", **more: Any
) -> dict[str, Any]:
    """A row of a log. A whole number stands for one of the items."""
    item_id = f"i{item}" if isinstance(item, int) else item
    return {"query": query, "item_id": item_id, "action": action, "user": user, **more}


def by_users(query: str, item: int, action: str = "long_click", n: int = 5, **more: Any) -> list[dict[str, Any]]:
    """The same row of n users."""
    return [row(query, item, action, f"u{k}", **more) for k in range(n)]


def engaged(tables: dict[str, pl.DataFrame], version: int = -1) -> dict[str, dict[str, float]]:
    """item_id -> query -> weight of one version."""
    fields = tables["fields"].filter(pl.col("text_version") == version)
    return {
        item: {entry["query"]: entry["weight"] for entry in entries}
        for item, entries in fields.select("item_id", "engaged_queries").iter_rows()
    }
