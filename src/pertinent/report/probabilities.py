"""What the systems' grade probabilities say: reliability bins, confusion matrices and score spreads to plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.evaluation.classification import confusion_matrix, most_likely, reliability_bins
from pertinent.report import numbers
from pertinent.report.run_files import RunFiles, mapping

SHOWN = ("teacher", "student")


@dataclass(frozen=True)
class Reliability:
    """Reliability bins of one system, from low to high confidence. stated, true: shape (bins,), in [0, 1]."""

    system: str
    stated: NDArray[np.float64]
    true: NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Pairs by human grade (row) and given grade (column), lowest grade first. counts: shape (n, n)."""

    system: str
    counts: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each row's counts as shares of the row; 0 in a row without a pair. Shape (n, n)."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: NDArray[np.float64] = np.divide(self.counts, totals, out=np.zeros(self.counts.shape), where=totals > 0)
        return shares


def reliabilities(run: RunFiles) -> list[Reliability]:
    """Of the teacher and the student, from reliability.json, else from the probabilities in scores.parquet."""
    found = []
    for system in SHOWN:
        bins = _written_bins(run.reliability, system) or _counted_bins(run, system)
        if bins:
            stated, true = zip(*bins, strict=True)
            found.append(Reliability(system, np.array(stated), np.array(true)))
    return found


def confusions(run: RunFiles) -> list[Confusion]:
    """Of the teacher and the student, from confusion.json, else from the probabilities in scores.parquet."""
    found = []
    for system in SHOWN:
        counts = _written_counts(run.confusion, system, run.n_grades)
        if counts is None:
            counts = _counted(run, system)
        if counts is not None:
            found.append(Confusion(system, counts))
    return found


def score_spread(run: RunFiles, system: str) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Stored grades and scores of all pairs, each shape (pairs,); None without pairs, or where a score is not finite."""
    if system not in run.scored_systems or not run.scores.height:
        return None
    scores = run.scores[system].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return (run.scores["grade"].to_numpy(), scores) if np.isfinite(scores).all() else None


def _written_bins(document: Mapping[str, Any], system: str) -> list[tuple[float, float]]:
    bins = mapping(document.get(system)).get("bins")
    if not isinstance(bins, list):
        return []
    pairs = [
        (numbers.measured(mapping(b).get("confidence")), numbers.measured(mapping(b).get("accuracy"))) for b in bins
    ]
    return [(stated, true) for stated, true in pairs if stated is not None and true is not None]


def _written_counts(document: Mapping[str, Any], system: str, n_grades: int) -> NDArray[np.int64] | None:
    rows = mapping(document.get(system)).get("counts")
    if not isinstance(rows, list) or any(not isinstance(row, list) for row in rows):
        return None
    if len(rows) != n_grades or any(len(row) != n_grades for row in rows):
        return None
    return np.array(rows, dtype=np.int64)


def _counted_bins(run: RunFiles, system: str) -> list[tuple[float, float]]:
    found = _probs(run, system)
    if found is None:
        return []
    grades, probs = found
    bins = reliability_bins(most_likely(probs) == grades, probs.max(axis=1))
    return [(b.confidence, b.accuracy) for b in bins]


def _counted(run: RunFiles, system: str) -> NDArray[np.int64] | None:
    found = _probs(run, system)
    return None if found is None else confusion_matrix(found[0], most_likely(found[1]), run.n_grades)


def _probs(run: RunFiles, system: str) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Grades (pairs,) and probabilities (pairs, n); None without them, or where one is not finite."""
    columns = run.probability_columns(system)
    if not run.scores.height or not columns:
        return None
    probs = run.scores.select(pl.col(columns).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return (run.scores["grade"].to_numpy(), probs) if np.isfinite(probs).all() else None
