"""Parts of the judged pairs to measure apart: by language, by length of the query, by any column of the pair.

Derived columns: ``query_words`` from the query; ``item_fields`` from the items' own columns; ``query_popularity`` and
``item_popularity`` from how often the search log names them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError

QUERY_WORDS = "query_words"
ITEM_FIELDS = "item_fields"
QUERY_POPULARITY = "query_popularity"
ITEM_POPULARITY = "item_popularity"
DEFAULT_COLUMNS = ("language", QUERY_WORDS)
MISSING = "(missing)"
MAX_WORDS = 5


def with_query_words(scores: pl.DataFrame) -> pl.DataFrame:
    """Add the column ``query_words``: "1" .. "4", or "5+", runs of non-space characters of the query.

    A query in a script without spaces counts as one word.
    """
    words = pl.col("query").str.extract_all(r"\S+").list.len()
    label = pl.when(words >= MAX_WORDS).then(pl.lit(f"{MAX_WORDS}+")).otherwise(words.cast(pl.String))
    return scores.with_columns(label.alias(QUERY_WORDS))


def with_item_fields(scores: pl.DataFrame, items: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """Add the column ``item_fields``: which of ``fields`` the item has, as "title+captions", or "none".

    items: item_id and any of the fields, text or lists; an empty one is not there. An unknown item is null.
    """
    present = [name for name in fields if name in items.columns]
    told = [
        pl.when(_is_there(items.schema[name], name)).then(pl.lit(name)).otherwise(pl.lit(None, pl.String))
        for name in present
    ]
    joined = pl.concat_str(told, separator="+", ignore_nulls=True) if told else pl.lit("")
    label = pl.when(joined == "").then(pl.lit("none")).otherwise(joined).alias(ITEM_FIELDS)
    return scores.join(items.select("item_id", label), on="item_id", how="left", maintain_order="left")


def with_popularity(scores: pl.DataFrame, counts: pl.DataFrame, key: str, name: str) -> pl.DataFrame:
    """Add the column ``name``: "head", "torso", "tail" or "unseen", by how often the log names the row's ``key``.

    counts: ``key`` and ``n``, its rows in the log. Head are the most frequent keys that together make up a third of the
    log, torso the next third, tail the rest; keys of one frequency stay together. A key that is not in the log is unseen.
    """
    ordered = counts.group_by("n").agg(pl.len().alias("keys")).sort("n", descending=True)
    above = ordered.with_columns(
        ((pl.col("n") * pl.col("keys")).cum_sum() - pl.col("n") * pl.col("keys")).alias("above")
    )
    total = max(int((counts["n"]).sum()), 1)
    third = pl.col("above") / total
    label = (
        pl.when(third < 1 / 3).then(pl.lit("head")).when(third < 2 / 3).then(pl.lit("torso")).otherwise(pl.lit("tail"))
    )
    labels = counts.join(above.select("n", label.alias(name)), on="n", how="left").select(key, name)
    joined = scores.join(labels, on=key, how="left", maintain_order="left")
    return joined.with_columns(pl.col(name).fill_null("unseen"))


def slice_rows(
    scores: pl.DataFrame, column: str, max_values: int = 50
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """The rows of each value of ``column``, values in sorted order, and notes on what was left out.

    A null or blank value is the slice "(missing)". Of more than ``max_values`` values the ones with most pairs are kept. By
    ``grade`` each slice has one grade: accuracy and log loss tell something there, an order does not and is undefined.
    Raises DataError if the column is absent or holds lists or structs.
    """
    if column not in scores.columns:
        raise DataError(f"slice column {column}: no such column; found {', '.join(scores.columns)}")
    if scores.schema[column].is_nested():
        raise DataError(f"slice column {column}: expected one value a row, found {scores.schema[column]}")
    text = pl.col("value")
    named = pl.when(text.str.strip_chars() == "").then(None).otherwise(text).fill_null(MISSING)
    labels = scores.select(pl.col(column).cast(pl.String).alias("value")).select(named.alias("value"))["value"]
    if column == "grade":
        labels = pl.Series("value", [f"L{grade + 1}" for grade in scores["grade"]], dtype=pl.String)
    groups = (
        pl.DataFrame({"value": labels})
        .with_row_index("row")
        .group_by("value")
        .agg(pl.col("row").sort(), pl.len().alias("n"))
        .sort(["n", "value"], descending=[True, False])
    )
    kept = groups.head(max_values).sort("value")
    dropped = groups.height - kept.height
    notes = [f"slices by {column}: the {max_values} values with most pairs of {groups.height}"] if dropped else []
    rows = {value: row.to_numpy().astype(np.int64) for value, row in zip(kept["value"], kept["row"], strict=True)}
    return rows, notes


def slice_columns_of(scores: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """``scores`` with ``query_words`` added if it is asked for and absent."""
    wanted = QUERY_WORDS in columns and QUERY_WORDS not in scores.columns
    return with_query_words(scores) if wanted else scores


def too_small(n_queries: int, fewest: int) -> str:
    """Why a slice has no interval, or nothing where it is large enough."""
    if n_queries >= fewest:
        return ""
    counted = "no query" if n_queries == 0 else "1 query" if n_queries == 1 else f"{n_queries} queries"
    return f"too small: {counted}, {fewest} are needed for an interval"


def _is_there(dtype: pl.DataType, name: str) -> pl.Expr:
    if isinstance(dtype, pl.List):
        return pl.col(name).list.len().fill_null(0) > 0
    if dtype == pl.String:
        return pl.col(name).str.strip_chars().fill_null("") != ""
    return pl.col(name).is_not_null()
