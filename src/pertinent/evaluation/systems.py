"""One system's columns of a scores frame, checked, and what every measure reads of it: orders that are sorted once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.evaluation import classification, metrics
from pertinent.evaluation.calibration import MonotoneMap
from pertinent.evaluation.classification import Floats, Ints
from pertinent.evaluation.metrics import Judgments, Ranking, rank, rank_retrieved
from pertinent.evaluation.pooled import SortedPairs
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


@dataclass(frozen=True)
class Retrieved:
    """What a run retrieved for the judged queries, judged or not.

    queries: (M,) int64, in 0..n_queries-1 of the judgments. rows: (M,) int64, the row of the judged pair, -1 where the
    item is not judged. scores: (M,) float64.
    """

    queries: Ints
    rows: Ints
    scores: Floats


@dataclass(frozen=True)
class Scored:
    """One system on judged pairs, with every order that its measures need, each sorted once and when first asked for.

    system: a score for each judged pair. retrieved: None where that is all there is; of a run, its lists, by which the
    measures of a ranking go, while those of pairs go by ``system``.
    """

    judgments: Judgments
    system: SystemScores
    retrieved: Retrieved | None = None

    @cached_property
    def judged(self) -> Ranking:
        """Every judged item, ranked."""
        return rank(self.judgments, self.system.scores, self.system.name)

    def ranking(self, judged_only: bool) -> Ranking:
        """The ranked lists, with unjudged items in place at the lowest grade, or without them (a condensed list)."""
        if self.retrieved is None:
            return self.judged
        return self._condensed if judged_only else self._whole

    @cached_property
    def _whole(self) -> Ranking:
        assert self.retrieved is not None
        found = self.retrieved
        return rank_retrieved(self.judgments, found.queries, self.retrieved_grades, found.scores, self.system.name)

    @cached_property
    def _condensed(self) -> Ranking:
        assert self.retrieved is not None
        found, kept = self.retrieved, self.retrieved.rows >= 0
        grades = self.retrieved_grades[kept]
        return rank_retrieved(self.judgments, found.queries[kept], grades, found.scores[kept], self.system.name)

    @property
    def retrieved_grades(self) -> Ints:
        """(M,) int64: stored grade of each retrieved item, -1 where it is not judged."""
        assert self.retrieved is not None
        rows = self.retrieved.rows
        grades: Ints = np.where(rows >= 0, self.judgments.grades[rows] if self.judgments.grades.size else -1, -1)
        return grades

    def sorted_by(self, threshold: int) -> SortedPairs:
        """Pairs in the order of P(grade >= threshold) where the system gives it, else of its score.

        threshold: stored, 1..n-1.
        """
        return self._orders[threshold if self._has_own else 0]

    @property
    def _has_own(self) -> bool:
        return self.system.own_probs and self.system.probs is not None

    @cached_property
    def _orders(self) -> dict[int, SortedPairs]:
        judgments = self.judgments
        if not self._has_own:
            return {0: SortedPairs.of(judgments.queries, judgments.n_queries, self.system.scores)}
        assert self.system.probs is not None
        own = classification.at_least(self.system.probs)
        return {
            k: SortedPairs.of(judgments.queries, judgments.n_queries, own[:, k - 1])
            for k in range(1, judgments.n_grades)
        }

    @property
    def predicted(self) -> Ints:
        """(N,) int64: the predicted grade of each judged pair, of a system that has grades."""
        assert self.system.predicted is not None
        return self.system.predicted

    @property
    def probs(self) -> Floats:
        """(N, n) float64: the grade probabilities of each judged pair, of a system that has them."""
        assert self.system.probs is not None
        return self.system.probs

    def take(self, rows: NDArray[np.int64], *, whole_queries: bool = True) -> Scored:
        """The same system on some of the judged pairs.

        whole_queries: whether ``rows`` are all pairs of their queries; else the lists keep only items among the rows.
        """
        queries = np.unique(self.judgments.queries[rows])
        part = Judgments.of(self.judgments.queries[rows], self.judgments.grades[rows], self.judgments.n_grades)
        found = self.retrieved
        if found is not None:
            new_row = np.full(self.judgments.queries.size + 1, -1)  # the last stands for -1: not judged
            new_row[rows] = np.arange(rows.size)
            new_query = np.full(self.judgments.n_queries, -1)
            new_query[queries] = np.arange(queries.size)
            kept = (new_query[found.queries] >= 0) & ((new_row[found.rows] >= 0) | ((found.rows < 0) & whole_queries))
            found = Retrieved(new_query[found.queries[kept]], new_row[found.rows[kept]], found.scores[kept])
        return Scored(part, self.system.take(rows), found)


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
