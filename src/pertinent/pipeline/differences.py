"""How far the student is above what it should beat, each difference with an interval on the same resamples of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pertinent.evaluation import compare
from pertinent.evaluation.metrics import relevant_grade
from pertinent.evaluation.slices import slice_columns_of, slice_rows
from pertinent.types import Scale

SYSTEM = "student"
BASELINES = ("bm25", "embedding")


def with_differences(metrics: Mapping[str, Any], scores: pl.DataFrame, scale: Scale) -> dict[str, Any]:
    """``metrics`` of ``evaluate`` with ``differences`` at the top and in every slice.

    differences: {"student": {"bm25" | "embedding": {metric: {"difference": number|null, "interval": [low, high]|null}}}}
    for every AUROC and the rankings' metrics, in a slice for the AUROC of the relevant grades and pair_accuracy; on the
    resamples of the metrics, so without an interval where the metrics have none.
    """
    test = scores.filter(pl.col("split") == "test")
    thresholds = [f"auroc_{shown}+" for shown in range(2, scale.n_grades + 1)]
    resamples, seed = metrics["resamples"], metrics["seed"]
    everywhere = [*thresholds, "pair_accuracy", "ndcg@10", "ndcg@20"]
    in_slices = [f"auroc_{relevant_grade(scale.n_grades) + 1}+", "pair_accuracy"]
    slices = {}
    for column, parts in metrics["slices"].items():
        rows_of, _ = slice_rows(slice_columns_of(test, [column]), column)
        slices[column] = {
            value: {
                **part,
                "differences": _differences(
                    test[rows_of[value]], scale, in_slices, 0 if part["small"] else resamples, seed
                ),
            }
            for value, part in parts.items()
        }
    return {**metrics, "differences": _differences(test, scale, everywhere, resamples, seed), "slices": slices}


def _differences(
    test: pl.DataFrame, scale: Scale, metrics: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, Any]] = {}
    for baseline in BASELINES:
        found[baseline] = {}
        for metric in metrics:
            paired = compare(test, scale, SYSTEM, baseline, metric, resamples=resamples, seed=seed)
            found[baseline][metric] = {"difference": paired.difference, "interval": paired.interval}
    return {SYSTEM: found}
