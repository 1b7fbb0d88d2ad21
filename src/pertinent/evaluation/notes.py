"""What an evaluation counted, and a line for each figure that is undefined or to be read with care."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pertinent.evaluation.metrics import Judgments, relevant_grade
from pertinent.evaluation.systems import Scored

MIN_QUERIES = 20  # a slice with fewer gets no interval: its percentiles would be too narrow to be honest


def counts_of(judgments: Judgments, shown: Sequence[str], n_dev_pairs: int, n_dev_queries: int) -> dict[str, int]:
    """Pairs and queries, by split and by grade, and the queries that single metrics are over. shown: names of grades."""
    per_query = judgments.grade_counts
    sizes = per_query.sum(axis=1)
    by_grade = {f"n_pairs_{name}": int(n) for name, n in zip(shown, per_query.sum(axis=0), strict=True)}
    return {
        "n_dev_pairs": n_dev_pairs,
        "n_dev_queries": n_dev_queries,
        "n_pairs": judgments.queries.size,
        "n_queries": judgments.n_queries,
        **by_grade,
        "n_queries_without_gain": int((per_query[:, 0] == sizes).sum()),  # left out of ndcg
        "n_queries_of_8_judgments": int((sizes >= 8).sum()),  # those of precision@8
        "n_ordered_pairs": int(((sizes**2 - (per_query**2).sum(axis=1)) // 2).sum()),  # those of pair_accuracy
    }


def notes_of(judgments: Judgments, systems: Sequence[Scored]) -> list[str]:
    """Why figures of all systems are undefined, and which systems give one score to every pair."""
    grades_seen = np.flatnonzero(judgments.grade_counts.sum(axis=0))
    notes = [
        f"auroc_{k + 1}+: null, all test pairs are on one side of L{k + 1}"
        for k in range(1, judgments.n_grades)
        if grades_seen[-1] < k or grades_seen[0] >= k
    ]
    relevant = relevant_grade(judgments.n_grades)
    if grades_seen[-1] < relevant:
        notes.append(f"mrr@10, map and recall@20: null, no test pair is L{relevant + 1} or above")
    empty = [f"auprc_{k + 1}+" for k in range(1, judgments.n_grades) if grades_seen[-1] < k]
    notes += [f"{', '.join(empty)}: null, no test pair is of such a grade"] if empty else []
    if judgments.n_queries < 2:
        notes.append("intervals: null, there is only one test query")
    elif judgments.n_queries < MIN_QUERIES:
        notes.append(f"intervals: rough, there are only {judgments.n_queries} test queries")
    if (judgments.grade_counts.sum(axis=1) < 8).all():
        notes.append("precision@8: null, no test query has 8 judgments")
    if grades_seen[-1] == 0:
        notes.append("ndcg: null, no test pair is above the lowest grade")
    if (judgments.grade_counts > 0).sum(axis=1).max() < 2:
        notes.append("pair_accuracy: null, no test query has items of different grades")
    constant = [each.system.name for each in systems if (each.system.scores == each.system.scores[0]).all()]
    return notes + [
        f"{name}: all test scores are equal, so its ranking figures are those of chance" for name in constant
    ]


def ece_notes(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each system whose interval of ece leaves out the value."""
    found = []
    for name, intervals in measured["intervals"].items():
        ece, interval = measured["systems"][name]["ece"], intervals["ece"]
        if interval and not interval[0] <= ece <= interval[1]:
            found.append(f"{name}: resampling adds noise to ece, so its interval lies above the value")
    return found
