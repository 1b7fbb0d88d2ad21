"""AUROC and average precision over the pairs of all queries, as statistics of weighted queries.

Pairs are sorted by score once. The derivatives by a query's weight are those of the placements of its pairs: DeLong et
al. 1988, doi:10.2307/2531595, for independent pairs; Obuchowski 1997, doi:10.2307/2533958, for clusters, here queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertinent.errors import DataError
from pertinent.evaluation.classification import auroc_parts, weighted_auroc
from pertinent.evaluation.statistics import Floats, Ints

# float64 cells worked on at once: 256 KiB stay in the cache of one core; 2 MiB took three times as long.
_CELLS = 1 << 15


@dataclass(frozen=True)
class SortedPairs:
    """Pairs of all queries in the order of one score, low to high, for every statistic that needs that order.

    queries: (N,) int64, in 0..n_queries-1, in that order. order: (N,) int64, the row of each. tie_starts: (G,) int64.
    """

    queries: Ints
    n_queries: int
    order: Ints
    tie_starts: Ints

    @classmethod
    def of(cls, queries: Ints, n_queries: int, scores: Floats) -> SortedPairs:
        """Sort once. queries, scores: (N,)."""
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        changed = np.ones(ranked.size, dtype=bool)
        changed[1:] = ranked[1:] != ranked[:-1]
        return cls(queries[order], n_queries, order, np.flatnonzero(changed))


@dataclass(frozen=True)
class _Pooled(ABC):
    """Pairs of all queries, sorted by score from low to high; a pair has the weight of its query.

    queries: (N,) int64 and positive: (N,) bool, of the sorted pairs. tie_starts: (G,) int64.
    """

    queries: Ints
    positive: NDArray[np.bool_]
    tie_starts: Ints
    n_queries: int

    @classmethod
    def of(cls, queries: Ints, n_queries: int, positive: NDArray[np.bool_], scores: Floats) -> Self:
        """Sort pairs by score. queries: (N,) in 0..n_queries-1; positive, scores: (N,)."""
        return cls.by(SortedPairs.of(queries, n_queries, scores), positive)

    @classmethod
    def by(cls, pairs: SortedPairs, positive: NDArray[np.bool_]) -> Self:
        """Of pairs that are sorted already. positive: (N,) bool, in the order before the sort."""
        return cls(pairs.queries, positive[pairs.order], pairs.tie_starts, pairs.n_queries)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(Q,) bool: queries with a pair; see Statistic."""
        return np.bincount(self.queries, minlength=self.n_queries) > 0

    def under(self, weights: Floats) -> Floats:
        """The area under each row of query weights; see Statistic."""
        rows = max(1, _CELLS // max(self.queries.size, 1))
        parts = [
            self._area(np.take(weights[start : start + rows], self.queries, axis=1))
            for start in range(0, weights.shape[0], rows)
        ]
        return np.concatenate(parts)

    def influence(self) -> Floats:
        """The summed derivatives by the weights of a query's pairs; see Statistic."""
        if not 0 < self.positive.sum() < self.positive.size:
            return np.full(self.n_queries, np.nan)
        groups = np.repeat(np.arange(self.tie_starts.size), np.diff(self.tie_starts, append=self.queries.size))
        hits = np.add.reduceat(self.positive.astype(np.float64), self.tie_starts)
        misses = np.diff(self.tie_starts, append=self.queries.size) - hits
        by_hit, by_miss = self._derivatives(hits, misses)
        weights = np.where(self.positive, by_hit[groups], by_miss[groups])
        return np.bincount(self.queries, weights=weights, minlength=self.n_queries).astype(np.float64)

    def exchanged(self, other: Self, swaps: Floats) -> Floats:
        """To first order: two systems' scores share no scale, so what changes sides is each query's influence."""
        if type(self) is not type(other) or self.n_queries != other.n_queries:
            raise DataError("exchange: expected the same statistic of two systems on the same queries")
        whole = np.ones((1, self.n_queries))
        shares = self.counted / self.counted.sum()
        parts = self.influence() - other.influence() + shares * (self.under(whole) - other.under(whole))
        return np.asarray((1 - 2 * swaps) @ parts, dtype=np.float64)

    @abstractmethod
    def _area(self, weights: Floats) -> Floats:
        """The area under each row of weights, (B, N) of the sorted pairs: (B,)."""

    @abstractmethod
    def _derivatives(self, hits: Floats, misses: Floats) -> tuple[Floats, Floats]:
        """Of the area by the weight of a positive, and of a negative, in each group of equal scores (low to high)."""


class PooledAuroc(_Pooled):
    """Area under the ROC curve; see ``classification.auroc``."""

    def _area(self, weights: Floats) -> Floats:
        return weighted_auroc(weights, self.positive, self.tie_starts)

    def _derivatives(self, hits: Floats, misses: Floats) -> tuple[Floats, Floats]:
        below = np.cumsum(misses) - 0.5 * misses
        above = hits.sum() - np.cumsum(hits) + 0.5 * hits
        area, n_hits, n_misses = float(hits @ below), hits.sum(), misses.sum()
        area /= n_hits * n_misses
        return (below / n_misses - area) / n_hits, (above / n_hits - area) / n_misses


class PooledAuprc(_Pooled):
    """Average precision, the area under the precision-recall curve as steps; see ``average_precision``."""

    def _area(self, weights: Floats) -> Floats:
        hits, misses = auroc_parts(weights, self.positive, self.tie_starts)
        above_hits = np.cumsum(hits[:, ::-1], axis=1)
        above = above_hits + np.cumsum(misses[:, ::-1], axis=1)
        precision = np.divide(above_hits, above, out=np.zeros(above.shape), where=above > 0)
        n_hits = above_hits[:, -1] if above_hits.shape[1] else np.zeros(weights.shape[0])
        summed = np.einsum("bg,bg->b", hits[:, ::-1], precision)
        area: Floats = np.divide(summed, n_hits, out=np.full(n_hits.shape, np.nan), where=n_hits > 0)
        return area

    def _derivatives(self, hits: Floats, misses: Floats) -> tuple[Floats, Floats]:
        down = hits[::-1]
        found = np.cumsum(down)
        retrieved = found + np.cumsum(misses[::-1])
        precision = found / retrieved
        # A pair more changes the precision at its own threshold and at every lower one.
        by_hit = np.cumsum((down * (retrieved - found) / retrieved**2)[::-1])[::-1]
        by_miss = np.cumsum((down * found / retrieved**2)[::-1])[::-1]
        n_hits = found[-1]
        area = float(down @ precision) / n_hits
        return ((precision + by_hit - area) / n_hits)[::-1], (-by_miss / n_hits)[::-1]


def average_precision(positive: ArrayLike, scores: ArrayLike) -> float | None:
    """Sum over score thresholds, high to low, of precision times the gain in recall; equal scores are one threshold.

    positive: (N,) bool. scores: (N,) finite. None without a positive. Oracle: scikit-learn average_precision_score
    (tests/). Pooled over pairs: the mean over queries of a ranking's own is ``binary.average_precision``.
    """
    labels, found = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    statistic = PooledAuprc.of(np.zeros(labels.size, dtype=np.int64), 1, labels, found)
    value = float(statistic.under(np.ones((1, 1)))[0])
    return None if np.isnan(value) else value
