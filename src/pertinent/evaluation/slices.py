"""Parts of the judged pairs to measure apart: by language, by length of the query, by any column of the pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError

QUERY_WORDS = "query_words"
DEFAULT_COLUMNS = ("language", QUERY_WORDS)
MISSING = "(missing)"
MAX_WORDS = 5
# The measured outcome itself: a slice by it would leave one grade in each slice.
_REFUSED = ("grade", "grade_mean")


def with_query_words(scores: pl.DataFrame) -> pl.DataFrame:
    """Add the column ``query_words``: "1" .. "4", or "5+", runs of non-space characters of the query.

    A query in a script without spaces counts as one word.
    """
    words = pl.col("query").str.extract_all(r"\S+").list.len()
    label = pl.when(words >= MAX_WORDS).then(pl.lit(f"{MAX_WORDS}+")).otherwise(words.cast(pl.String))
    return scores.with_columns(label.alias(QUERY_WORDS))


def slice_rows(
    scores: pl.DataFrame, column: str, max_values: int = 50
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """The rows of each value of ``column``, values in sorted order, and notes on what was left out.

    A null value is the slice "(missing)". Of more than ``max_values`` values the ones with most pairs are kept.
    Raises DataError if the column is absent, holds lists or structs, or is the grade.
    """
    if column in _REFUSED:
        raise DataError(f"slice column {column}: expected a column that does not depend on the grade")
    if column not in scores.columns:
        raise DataError(f"slice column {column}: no such column; found {', '.join(scores.columns)}")
    if scores.schema[column].is_nested():
        raise DataError(f"slice column {column}: expected one value a row, found {scores.schema[column]}")
    labels = scores[column].cast(pl.String).fill_null(MISSING).rename("value")
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
