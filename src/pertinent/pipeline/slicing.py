"""Columns to slice the held-out pairs by that come from the items or the log of the data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl

from pertinent.data.build import Dataset
from pertinent.data.folder import ITEM_COLUMNS
from pertinent.errors import DataError
from pertinent.evaluation.slices import (
    ITEM_FIELDS,
    ITEM_POPULARITY,
    QUERY_POPULARITY,
    QUERY_WORDS,
    with_item_fields,
    with_popularity,
)

PAIR_COLUMNS = ("query_id", "query", "item_id", "grade", "language", "split")
_FIELDS = tuple(name for name in ITEM_COLUMNS if name not in ("item_id", "language", "numeric"))


def with_slice_columns(scores: pl.DataFrame, dataset: Dataset, columns: Sequence[str]) -> pl.DataFrame:
    """``scores`` (query_id, item_id, ...) with every column of ``columns`` that it lacks.

    item_fields: which fields the item has. query_popularity, item_popularity: by the rows of the log. Else a column of the
    items. Raises DataError for a popularity without a log, or a name that neither the pairs nor the items have.
    """
    for column in columns:
        if column in scores.columns or column == QUERY_WORDS:
            continue
        if column == ITEM_FIELDS:
            scores = with_item_fields(scores, dataset.items, (*_FIELDS, *dataset.attributes))
        elif column in (QUERY_POPULARITY, ITEM_POPULARITY):
            scores = _with_popularity(scores, dataset, column)
        elif column in dataset.items.columns:
            items = dataset.items.select("item_id", column)
            scores = scores.join(items, on="item_id", how="left", maintain_order="left")
        else:
            raise _unknown(column, {*scores.columns, *dataset.items.columns})
    return scores


def check_slice_columns(data: Path, columns: Sequence[str]) -> None:
    """Raise DataError, as ``with_slice_columns`` would, for a name that a data stage's folder has no values for.

    So a misspelt name stops a run before anything is trained.
    """
    items = pl.read_parquet_schema(data / "items.parquet")
    for column in columns:
        if column in (QUERY_POPULARITY, ITEM_POPULARITY):
            if not (data / "log.parquet").exists():
                raise _without_log(column)
        elif column not in (*PAIR_COLUMNS, *items, QUERY_WORDS, ITEM_FIELDS):
            raise _unknown(column, {*PAIR_COLUMNS, *items})
        elif column in items and column not in PAIR_COLUMNS and items[column].is_nested():
            raise DataError(f"evaluation.slices: {column} holds {items[column]}, expected one value a row")


def _unknown(column: str, known: Collection[str]) -> DataError:
    names = sorted({*known, QUERY_WORDS, ITEM_FIELDS, QUERY_POPULARITY, ITEM_POPULARITY})
    told = ", ".join(name for name in names if "." not in name or name.startswith("numeric."))
    return DataError(f"evaluation.slices: expected columns of the pairs or the items, found {column}; known: {told}")


def _without_log(column: str) -> DataError:
    return DataError(f"evaluation.slices: {column} is counted from the log, and the data set has none")


def _with_popularity(scores: pl.DataFrame, dataset: Dataset, column: str) -> pl.DataFrame:
    if dataset.log is None:
        raise _without_log(column)
    key = "query_id" if column == QUERY_POPULARITY else "item_id"
    counts = dataset.log.group_by(key).agg(pl.len().alias("n")).collect()
    return with_popularity(scores, counts, key, column)
