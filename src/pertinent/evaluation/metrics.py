"""Ranking metrics of graded relevance, of all queries at once. NumPy only: knows nothing of models, files or config.

Judgments are validated once, a system's scores rank them once, and every metric, here and in ``binary``, reads that
ranking. ``rank`` orders the judged items alone (a condensed list); ``rank_retrieved`` orders what a run retrieved. Items
with equal scores share the mean gain of the ranks they cover, also where the cutoff falls among them: every metric is
then its mean over all ways to break the ties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertinent.errors import DataError

Gain = Literal["exponential", "linear"]
_GAINS: dict[str, Callable[[NDArray[Any]], NDArray[np.float64]]] = {
    "exponential": lambda grades: np.exp2(grades.astype(np.float64)) - 1.0,
    "linear": lambda grades: grades.astype(np.float64),
}


@dataclass(frozen=True)
class Judgments:
    """Judged pairs, validated; make one with ``Judgments.of``.

    queries: (N,) int64, the query of each pair, 0..n_queries-1. grades: (N,) int64, stored grade, 0..n_grades-1.
    """

    queries: NDArray[np.int64]
    grades: NDArray[np.int64]
    n_queries: int
    n_grades: int

    @classmethod
    def of(cls, queries: ArrayLike, grades: ArrayLike, n_grades: int) -> Judgments:
        """Judgments from any hashable, sortable query keys (numbered in sorted order) and stored grades.

        Raises DataError if the shapes differ or a grade is not a whole number in 0..n_grades-1.
        """
        keys, found = np.asarray(queries), np.asarray(grades)
        if keys.ndim != 1 or keys.shape != found.shape:
            raise DataError(f"need one query and one grade a pair, got shapes {keys.shape} and {found.shape}")
        wrong = ~((found >= 0) & (found <= n_grades - 1) & (found == np.floor(found)))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise DataError(f"row {first + 1}: grade must be 0-{n_grades - 1}, got {found[first]}")
        unique, codes = np.unique(keys, return_inverse=True)
        return cls(codes.astype(np.int64), found.astype(np.int64), unique.size, n_grades)

    @cached_property
    def grade_counts(self) -> NDArray[np.int64]:
        """(Q, n) int64: judged items of each query at each grade."""
        cells = np.bincount(self.queries * self.n_grades + self.grades, minlength=self.n_queries * self.n_grades)
        return cells.reshape(self.n_queries, self.n_grades)


@dataclass(frozen=True)
class Ranking:
    """Ranked pairs, sorted by query, then by score from high to low; make one with ``rank`` or ``rank_retrieved``.

    queries, grades, positions: (N,) int64, in ranked order; the position within the query counts from 0.
    tie_starts: (G,) int64, where each group of equal scores within a query begins. judgments: of which the ideal, the
    number of relevant items and the queries are taken, ranked or not.
    """

    judgments: Judgments
    queries: NDArray[np.int64]
    grades: NDArray[np.int64]
    positions: NDArray[np.int64]
    tie_starts: NDArray[np.int64]

    @classmethod
    def of(cls, judgments: Judgments, queries: NDArray[np.int64], grades: NDArray[np.int64], scores: Any) -> Ranking:
        """Sort pairs once. queries: (N,) in 0..judgments.n_queries-1. grades: (N,) stored. scores: (N,) finite."""
        order = np.lexsort((-scores, queries))
        queries, scores = queries[order], scores[order]
        query_starts = _starts(queries)
        sizes = np.diff(query_starts, append=queries.size)
        positions = np.arange(queries.size) - np.repeat(query_starts, sizes)
        return cls(judgments, queries, grades[order], positions, _starts(queries, scores))

    @cached_property
    def tie_sizes(self) -> NDArray[np.int64]:
        """(G,) int64: items in each group of equal scores."""
        return np.diff(self.tie_starts, append=self.queries.size)

    def share_ties(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) float64: every gain replaced by the mean gain of its group of equal scores."""
        if self.tie_starts.size == gains.size:
            return gains
        return np.repeat(np.add.reduceat(gains, self.tie_starts) / self.tie_sizes, self.tie_sizes)


@dataclass(frozen=True)
class PerQuery:
    """One metric for each query, and how much each counts in the mean.

    values: (Q,) float64, NaN where the query is left out. weights: (Q,) float64, 0 where it is left out; 1 for a
    mean over queries, the number of pairs for a figure pooled over pairs.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def counted(self) -> NDArray[np.int64]:
        """(M,) int64: the queries that count."""
        return np.flatnonzero(self.weights > 0)

    @property
    def n_left_out(self) -> int:
        """Queries without a value."""
        return self.weights.size - self.counted.size

    @property
    def mean(self) -> float | None:
        """Weighted mean over the queries that count; None where there is none."""
        counted = self.counted
        if counted.size == 0:
            return None
        return float(np.average(self.values[counted], weights=self.weights[counted]))


def rank(judgments: Judgments, scores: ArrayLike, system: str = "scores") -> Ranking:
    """Rank the judged items of every query by score, higher first.

    scores: (N,), any finite scale: only the order within a query is used. system: its name in an error.
    Raises DataError if the shape differs or a score is not finite. Cost: one sort of N pairs.
    """
    found = finite_scores(scores, judgments.queries.shape, system)
    return Ranking.of(judgments, judgments.queries, judgments.grades, found)


def rank_retrieved(
    judgments: Judgments, queries: ArrayLike, grades: ArrayLike, scores: ArrayLike, system: str = "scores"
) -> Ranking:
    """Rank what a run retrieved: an item without a judgment keeps its place, with the lowest grade.

    queries: (N,) the judged query of each retrieved item, 0..judgments.n_queries-1. grades: (N,) stored, -1 where the
    item is not judged. scores: (N,) finite. A judged item that is not retrieved has no rank, yet is part of the ideal.
    """
    of_query, judged = np.asarray(queries, dtype=np.int64), np.asarray(grades, dtype=np.int64)
    found = finite_scores(scores, of_query.shape, system)
    return Ranking.of(judgments, of_query, np.maximum(judged, 0), found)


def finite_scores(scores: ArrayLike, shape: tuple[int, ...], system: str) -> NDArray[np.float64]:
    """``scores`` as float64. Raises DataError if the shape is not ``shape`` or a score is NaN or infinite."""
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != shape:
        raise DataError(f"system {system}: expected scores of shape {shape}, got {found.shape}")
    n_nan, n_infinite = int(np.isnan(found).sum()), int(np.isinf(found).sum())
    if n_nan or n_infinite:
        raise DataError(f"system {system}: scores must be finite, found {n_nan} NaN and {n_infinite} infinite")
    return found


def ndcg(ranking: Ranking, k: int, gain: Gain = "exponential") -> PerQuery:
    """Normalised discounted cumulative gain of the top ``k``; the ideal is over the judged items of the query.

    gain: "exponential" is 2^grade - 1, "linear" is the grade, both on stored grades; the discount is 1/log2(rank + 1).
    A query with no item above the lowest grade has no ideal and is left out. Values are in [0, 1].
    Source: Burges et al. 2005, doi:10.1145/1102351.1102363; ties: McSherry and Najork 2008,
    doi:10.1007/978-3-540-78646-7_38. Oracles: ir_measures nDCG(dcg='exp-log2'), scikit-learn ndcg_score (tests/).
    """
    ideal = _ideal_dcg(ranking.judgments, k, gain)
    return _normalised(_dcg(ranking, k, gain), ideal)


def sdcg(ranking: Ranking, k: int, gain: Gain = "exponential") -> PerQuery:
    """Discounted cumulative gain of the top ``k`` over that of ``k`` items of the top grade.

    The denominator is one constant, so every query counts: one with only items of the lowest grade has 0, and one
    with fewer than ``k`` judged items cannot reach 1. Source: arXiv 2410.17152's evaluation (sDCG).
    """
    top = float(_GAINS[gain](np.array([ranking.judgments.n_grades - 1]))[0])
    ideal = np.full(ranking.judgments.n_queries, top * _discounts(k).sum())
    return _normalised(_dcg(ranking, k, gain), ideal)


def relevant_grade(n_grades: int) -> int:
    """Lowest stored grade that counts as relevant: the top two grades, only the top one of a scale of two."""
    return max(n_grades - 2, 1)


def pair_accuracy(ranking: Ranking) -> PerQuery:
    """Share of the pairs of items of one query with different grades whose scores are in the right order.

    Equal scores count half. The weight of a query is its number of such pairs, so ``mean`` is pooled over the pairs
    of all queries: a long list counts more than a short one. Queries whose items all have one grade are left out.
    ranking: by ``rank``, of every judged item.
    """
    judgments = ranking.judgments
    right = np.zeros(judgments.n_queries)
    query_ends = np.cumsum(judgments.grade_counts.sum(axis=1))
    tie_queries = ranking.queries[ranking.tie_starts]
    tie_ends = ranking.tie_starts + ranking.tie_sizes
    for grade in range(1, judgments.n_grades):
        n_lower = np.concatenate(([0], np.cumsum(ranking.grades < grade)))
        n_below = n_lower[query_ends[tie_queries]] - n_lower[tie_ends]
        n_tied = n_lower[tie_ends] - n_lower[ranking.tie_starts]
        n_here = _group_sums((ranking.grades == grade).astype(np.int64), ranking.tie_starts)
        right += np.bincount(tie_queries, weights=n_here * (n_below + 0.5 * n_tied), minlength=right.size)
    counts = judgments.grade_counts.astype(np.float64)
    n_pairs = (counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)) / 2
    return PerQuery(divide(right, n_pairs), n_pairs)


def _starts(*keys: NDArray[Any]) -> NDArray[np.int64]:
    changed = np.zeros(keys[0].size, dtype=bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def _group_sums(values: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.add.reduceat(values, starts) if starts.size else values[:0]


def _discounts(k: int) -> NDArray[np.float64]:
    if k < 1:
        raise DataError(f"the rank cutoff must be at least 1, got {k}")
    return 1.0 / np.log2(np.arange(2, k + 2))


def _dcg(ranking: Ranking, k: int, gain: Gain) -> NDArray[np.float64]:
    return sum_of_top(ranking, _GAINS[gain](ranking.grades), _discounts(k))


def sum_of_top(ranking: Ranking, gains: NDArray[np.float64], discounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Q,) float64: for each query, the sum over ranks of shared gain times discount."""
    top = np.flatnonzero(ranking.positions < discounts.size)
    weights = ranking.share_ties(gains)[top] * discounts[ranking.positions[top]]
    sums: NDArray[np.float64] = np.bincount(
        ranking.queries[top], weights=weights, minlength=ranking.judgments.n_queries
    ).astype(np.float64)  # no pair at all would give integers
    return sums


def _ideal_dcg(judgments: Judgments, k: int, gain: Gain) -> NDArray[np.float64]:
    """(Q,) float64: in the ideal order the items of one grade fill neighbouring ranks, so no sort is needed."""
    discounted = np.concatenate(([0.0], np.cumsum(_discounts(k))))
    best_first = np.cumsum(judgments.grade_counts[:, ::-1], axis=1)
    ends = discounted[np.minimum(best_first, k)]
    filled = np.diff(ends, axis=1, prepend=0.0)
    gains = _GAINS[gain](np.arange(judgments.n_grades))[::-1]
    # A plain sum, not a matrix product: BLAS may round a query differently by its place in the matrix.
    return np.asarray((filled * gains).sum(axis=1), dtype=np.float64)


def _normalised(dcg: NDArray[np.float64], ideal: NDArray[np.float64]) -> PerQuery:
    # The minimum removes rounding only (1 + 2e-16 for a perfect ranking): no ranking beats the ideal.
    return PerQuery(np.minimum(divide(dcg, ideal), 1.0), (ideal > 0).astype(np.float64))


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient, NaN where the denominator is not above 0."""
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
