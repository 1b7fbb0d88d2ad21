"""Judgments that are most likely wrong, by a model that never saw them: what to look at again first.

The probabilities must be out of fold: a model that was trained on a judgment repeats it, right or wrong. Confident
learning: a grade is suspected where another one is likelier than a model usually finds it for pairs so judged.
Source: Northcutt et al. 2021, doi:10.1613/jair.1.12125.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from pertinent.errors import DataError
from pertinent.evaluation.classification import most_likely
from pertinent.files import atomic_path, reason_of
from pertinent.types import Scale

COLUMNS = ("rank", "query", "item_id", "grade", "likely_grade", "p_grade", "p_likely", "margin", "suspected")


def suspects(
    judgments: pl.DataFrame, probs: ArrayLike, scale: Scale, *, trained_folds: ArrayLike | None = None
) -> pl.DataFrame:
    """The judgments, most likely wrong first, with the columns COLUMNS and then the others of ``judgments``.

    judgments: N rows with query, item_id and grade (stored). probs: (N, n), out of fold: of a model that was not trained
    on the row's query. grade and likely_grade are shown ("L4"). margin: p_likely - p_grade, which orders the list.
    suspected: another grade passes its own threshold, the mean probability it has on pairs that people gave it.
    trained_folds: (N,) bool, whether the model that scored the row saw its query; one such row is refused.
    Raises DataError if shapes differ, probabilities do not sum to 1, or a row was not scored out of fold.
    """
    wide = np.asarray(probs, dtype=np.float64)
    if wide.shape != (judgments.height, scale.n_grades):
        raise DataError(f"suspects: expected probabilities ({judgments.height}, {scale.n_grades}), found {wide.shape}")
    if not (np.abs(wide.sum(axis=1) - 1) <= 1e-3).all():
        raise DataError("suspects: probabilities must be finite and sum to 1 on every row, found others")
    seen = np.zeros(judgments.height, dtype=bool) if trained_folds is None else np.asarray(trained_folds, dtype=bool)
    if seen.any():
        query = judgments["query"][int(np.flatnonzero(seen)[0])]
        raise DataError(
            f"suspects: query {query}: expected probabilities of a model not trained on it ({seen.sum()} rows)"
        )
    grades = judgments["grade"].to_numpy().astype(np.int64)
    rows = np.arange(grades.size)
    likely = most_likely(wide)
    given, best = wide[rows, grades], wide[rows, likely]
    shown = np.array(scale.shown)
    listed = judgments.with_columns(
        pl.Series("grade", shown[grades], dtype=pl.String),
        pl.Series("likely_grade", shown[likely], dtype=pl.String),
        pl.Series("p_grade", given),
        pl.Series("p_likely", best),
        pl.Series("margin", best - given),
        pl.Series("suspected", _suspected(grades, wide)),
    ).sort(["margin", "query", "item_id"], descending=[True, False, False])
    listed = listed.with_columns(pl.int_range(1, pl.len() + 1).alias("rank"))
    return listed.select(*COLUMNS, pl.exclude(COLUMNS))


def write_suspects(found: pl.DataFrame, file: Path, *, only_suspected: bool = True) -> int:
    """Write the list as CSV for people to review, with an empty column ``review``; returns its number of rows.

    Lists and structs are left out. A value that a spreadsheet would run as a formula is written behind a quote mark.
    """
    rows = found.filter(pl.col("suspected")) if only_suspected else found
    flat = rows.select([name for name, dtype in rows.schema.items() if not dtype.is_nested()])
    texts = [name for name, dtype in flat.schema.items() if dtype == pl.String]
    flat = flat.with_columns(
        *(_inert(name) for name in texts),
        pl.col("p_grade", "p_likely", "margin").round(4),
        pl.lit("").alias("review"),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            flat.write_csv(temporary)
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {reason_of(error)}") from None
    return flat.height


def _inert(name: str) -> pl.Expr:
    starts = pl.col(name).str.contains(r"^[=+\-@\t\r]")
    return pl.when(starts).then(pl.concat_str(pl.lit("'"), name)).otherwise(pl.col(name)).alias(name)


def _suspected(grades: NDArray[np.int64], probs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) bool: the likeliest of the grades that pass their threshold is not the given one."""
    n_grades = probs.shape[1]
    counts = np.bincount(grades, minlength=n_grades)
    sums = np.bincount(grades, weights=probs[np.arange(grades.size), grades], minlength=n_grades)
    # A grade that nobody gave has no threshold, so none is suspected of being it.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    passing = np.where(probs >= thresholds, probs, -1.0)
    best = passing.argmax(axis=1)
    return np.asarray((passing.max(axis=1) >= 0) & (best != grades))
