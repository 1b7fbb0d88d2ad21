"""One system's columns of a scores frame, checked, and the statistics that measure it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.evaluation import classification, metrics
from pertinent.evaluation.calibration import MonotoneMap
from pertinent.evaluation.classification import Floats, Ints
from pertinent.evaluation.intervals import PooledAuroc, Statistic, Summed
from pertinent.evaluation.metrics import Judgments
from pertinent.types import Scale


@dataclass(frozen=True)
class SystemScores:
    """What one system says of N judged pairs.

    scores: (N,) float64, higher is better. probs: (N, n) float64 of the grades, its own or by the map fitted on dev;
    None where it has neither. predicted: (N,) int64 grade, None with probs. own_probs: whether probs are its own.
    """

    name: str
    scores: Floats
    probs: Floats | None
    predicted: Ints | None
    own_probs: bool

    def take(self, rows: NDArray[np.int64]) -> SystemScores:
        """The same system on some of the pairs."""
        probs = None if self.probs is None else self.probs[rows]
        predicted = None if self.predicted is None else self.predicted[rows]
        return SystemScores(self.name, self.scores[rows], probs, predicted, self.own_probs)

    @property
    def confidence(self) -> Floats:
        """(N,) float64: the probability of the predicted grade."""
        assert self.probs is not None
        assert self.predicted is not None
        return self.probs[np.arange(self.predicted.size), self.predicted]


def metric_names(n_grades: int) -> tuple[str, ...]:
    """The measured metrics in the order of a table: ``accuracy, auroc_2+ .. auroc_n+, pair_accuracy, ..., ece``."""
    thresholds = tuple(f"auroc_{shown}+" for shown in range(2, n_grades + 1))
    rest = ("pair_accuracy", "ndcg@10", "ndcg@20", "sdcg@20", "precision@8", "qwk", "within_1", "ece")
    return ("accuracy", *thresholds, *rest)


def read_system(frame: pl.DataFrame, name: str, scale: Scale) -> SystemScores:
    """The columns ``NAME``, and where present ``NAME.p_1`` .. ``NAME.p_n`` and ``NAME.grade``, of a scores frame.

    The predicted grade is ``NAME.grade`` where given (a draw, say), else the most likely one. Raises DataError if
    ``NAME`` or some of the probabilities are absent, a score is not finite or probabilities do not sum to 1.
    """
    if name not in frame.columns or not frame.schema[name].is_numeric():
        found = frame.schema.get(name, "no such column")
        raise DataError(f"system {name}: expected a column of numbers, found {found}")
    scores = metrics.finite_scores(_numbers(frame[name]), (frame.height,), name)
    columns = [f"{name}.{column}" for column in scale.probability_columns]
    present = [column for column in columns if column in frame.columns]
    if not present:
        return SystemScores(name, scores, None, None, False)
    if len(present) < len(columns):
        absent = sorted(set(columns) - set(present))
        raise DataError(f"system {name}: expected {len(columns)} columns of probabilities, absent {', '.join(absent)}")
    probs = np.stack([_numbers(frame[column]) for column in columns], axis=1)
    _check_probs(frame, probs, name)
    predicted = classification.most_likely(probs)
    if f"{name}.grade" in frame.columns:
        predicted = _checked_grades(frame[f"{name}.grade"], name, scale)
    return SystemScores(name, scores, probs, predicted, True)


def with_map(system: SystemScores, fitted: MonotoneMap) -> SystemScores:
    """``system`` with the probabilities that the map gives for its scores, and their most likely grade."""
    probs = fitted.probabilities(system.scores)
    return SystemScores(system.name, system.scores, probs, classification.most_likely(probs), False)


def statistics_of(judgments: Judgments, system: SystemScores) -> dict[str, Statistic]:
    """Every metric of one system by name, in the order of ``metric_names``; those of grades only where it has grades.

    AUROC is by P(grade >= k) where the probabilities are the system's own, else by its score.
    """
    ranking = metrics.rank(judgments, system.scores, system.name)
    found: dict[str, Statistic] = {
        "pair_accuracy": Summed.mean_of(metrics.pair_accuracy(ranking)),
        "ndcg@10": Summed.mean_of(metrics.ndcg(ranking, 10)),
        "ndcg@20": Summed.mean_of(metrics.ndcg(ranking, 20)),
        "sdcg@20": Summed.mean_of(metrics.sdcg(ranking, 20)),
        "precision@8": Summed.mean_of(metrics.precision(ranking, 8)),
    }
    found |= _aurocs(judgments, system)
    if system.probs is not None:
        found |= _grade_statistics(judgments, system)
    return {name: found[name] for name in metric_names(judgments.n_grades) if name in found}


def _aurocs(judgments: Judgments, system: SystemScores) -> dict[str, Statistic]:
    own = classification.at_least(system.probs) if system.own_probs and system.probs is not None else None
    found: dict[str, Statistic] = {}
    for k in range(1, judgments.n_grades):
        by = system.scores if own is None else own[:, k - 1]
        found[f"auroc_{k + 1}+"] = PooledAuroc.of(judgments.queries, judgments.n_queries, judgments.grades >= k, by)
    return found


def _grade_statistics(judgments: Judgments, system: SystemScores) -> dict[str, Statistic]:
    grades, predicted = judgments.grades, system.predicted
    assert predicted is not None
    terms = {
        "accuracy": (classification.accuracy_terms(grades, predicted), classification.ratio_of),
        "within_1": (classification.accuracy_terms(grades, predicted, tolerance=1), classification.ratio_of),
        "qwk": (classification.kappa_terms(grades, predicted), classification.kappa_of),
    }
    found: dict[str, Statistic] = {
        name: Summed.of_pairs(judgments.queries, judgments.n_queries, values, formula)
        for name, (values, formula) in terms.items()
    }
    found["ece"] = _ece(judgments, system.confidence, predicted == grades)
    return found


def _ece(judgments: Judgments, confidence: Floats, correct: NDArray[np.bool_]) -> Summed:
    """ECE by query. The bins are those of all pairs, kept under every resample.

    A resample adds noise to the gap of every bin, and ECE takes the gap's size, so the interval lies too high: for a
    well calibrated system it may not reach down to the value itself.
    """
    n_bins = classification.N_BINS
    cells = judgments.queries * n_bins + classification.equal_mass_bins(confidence)
    gaps = np.bincount(cells, weights=confidence - correct, minlength=judgments.n_queries * n_bins)
    counts = judgments.grade_counts.sum(axis=1, dtype=np.float64)
    return Summed(np.column_stack([gaps.reshape(-1, n_bins), counts]), classification.ece_of)


def _numbers(column: pl.Series) -> Floats:
    """(N,) float64, NaN where null."""
    return column.cast(pl.Float64).to_numpy()


def _check_probs(frame: pl.DataFrame, probs: Floats, name: str) -> None:
    wrong = np.flatnonzero(~((probs >= 0).all(axis=1) & (np.abs(probs.sum(axis=1) - 1) <= 1e-3)))
    if wrong.size:
        query, item = frame.select("query_id", "item_id").row(int(wrong[0]))
        found = [round(float(p), 6) for p in probs[wrong[0]]]
        raise DataError(
            f"system {name}: query {query}, item {item}: probabilities must be at least 0 and sum to 1, "
            f"found {found} ({wrong.size} such pairs)"
        )


def _checked_grades(column: pl.Series, name: str, scale: Scale) -> Ints:
    top = scale.n_grades - 1
    inside = column.is_between(0, top).fill_null(False)
    if not column.dtype.is_integer() or not inside.all():
        raise DataError(f"system {name}: column {name}.grade must hold whole numbers 0-{top}, found others")
    return column.to_numpy().astype(np.int64)
