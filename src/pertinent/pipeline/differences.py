"""How far the student is above what it should beat, each difference with an interval and tests on the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pertinent.evaluation.comparison import Settings, differences, with_adjusted
from pertinent.evaluation.evaluate import read_held_out
from pertinent.evaluation.measures import stage_measures
from pertinent.evaluation.metrics import relevant_grade
from pertinent.evaluation.slices import slice_rows
from pertinent.evaluation.systems import Scored
from pertinent.types import Scale

SYSTEM = "student"
BASELINES = ("bm25", "embedding")


def with_differences(metrics: Mapping[str, Any], scores: pl.DataFrame, scale: Scale) -> dict[str, Any]:
    """``metrics`` of ``evaluate`` with ``differences`` at the top and in every slice.

    differences: {"student": {"bm25" | "embedding": {metric: a Difference as a document, see ``comparison``}}} for every
    AUROC and the rankings' metrics, in a slice for the AUROC of the relevant grades, pair_accuracy and ndcg@20; on the resamples
    of the metrics, so without an interval where the metrics have none. p_adjusted: by Holm, over all tests of a metric.
    """
    thresholds = [f"auroc_{shown}+" for shown in range(2, scale.n_grades + 1)]
    everywhere = [*thresholds, "pair_accuracy", "ndcg@10", "ndcg@20"]
    in_slices = [f"auroc_{relevant_grade(scale.n_grades) + 1}+", "pair_accuracy", "ndcg@20"]
    held_out = read_held_out(scores, scale, [SYSTEM, *BASELINES], list(metrics["slices"]))
    method = metrics["interval_method"]
    settings = Settings(method, metrics["resamples"], seed=metrics["seed"])
    without = Settings("bootstrap", 0, permutations=0, seed=metrics["seed"])
    whole = _differences(held_out.systems, scale, everywhere, settings)
    slices: dict[str, dict[str, Any]] = {}
    for column, parts in metrics["slices"].items():
        rows_of, _ = slice_rows(held_out.test, column)
        slices[column] = {}
        for value, part in parts.items():
            taken = [each.take(rows_of[value]) for each in held_out.systems]
            found = _differences(taken, scale, in_slices, without if part["small"] else settings)
            slices[column][value] = {**part, "differences": found}
    tests = [whole, *(part["differences"] for parts in slices.values() for part in parts.values())]
    with_adjusted([document for part in tests for document in part[SYSTEM].values()], "holm")
    return {**metrics, "correction": "holm", "differences": whole, "slices": slices}


def _differences(
    systems: Sequence[Scored], scale: Scale, metrics: Sequence[str], settings: Settings
) -> dict[str, dict[str, dict[str, Any]]]:
    measures = {metric: stage_measures(scale.n_grades)[metric] for metric in metrics}
    return {SYSTEM: differences(systems[0], systems[1:], measures, settings)}
