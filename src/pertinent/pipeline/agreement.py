"""How far the raters of the test judgments agree, beside how near each system comes to one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from pertinent.evaluation.evaluate import read_held_out
from pertinent.evaluation.raters import Ratings, agreement
from pertinent.types import Scale


def with_agreement(
    metrics: Mapping[str, Any], scores: pl.DataFrame, judgments: pl.DataFrame, scale: Scale, *, systems: Sequence[str]
) -> dict[str, Any]:
    """``metrics`` of ``evaluate`` with ``raters``, the document of ``raters.agreement`` over the test pairs.

    judgments: of the data stage, with grade_counts (null where a pair's raters are not told apart). Where no test pair has
    two ratings of named raters, ``raters`` is null.
    """
    held_out = read_held_out(scores, scale, systems)
    counts = judgments.select("query_id", "item_id", "grade_counts")
    rated = held_out.test.select("query_id", "item_id").join(
        counts, on=["query_id", "item_id"], how="left", maintain_order="left"
    )
    none = [0] * scale.n_grades
    table = np.array([found or none for found in rated["grade_counts"].to_list()], dtype=np.int64)
    ratings = Ratings.of(table.reshape(-1, scale.n_grades), held_out.judgments.queries)
    if not len(ratings.counts):
        return {**metrics, "raters": None}
    found = agreement(
        ratings,
        [each.system for each in held_out.systems],
        method=metrics["interval_method"],
        resamples=metrics["resamples"],
        seed=metrics["seed"],
    )
    return {**metrics, "raters": found}
