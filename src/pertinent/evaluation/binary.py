"""Ranking metrics of binary relevance: a stored grade of ``rel`` and up counts. NumPy only.

As in ``metrics``, a tie counts as the mean over all ways to break it; for the two metrics whose value is not linear in
the gains, average precision and reciprocal rank, that mean has a closed form: McSherry and Najork 2008,
doi:10.1007/978-3-540-78646-7_38.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from pertinent.evaluation.metrics import Judgments, PerQuery, Ranking, divide, relevant_grade, sum_of_top

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def precision(ranking: Ranking, k: int, rel: int | None = None, *, short_lists: bool = False) -> PerQuery:
    """Share of the top ``k`` items that are relevant.

    rel: lowest stored grade that is relevant, by default ``relevant_grade``: L4 and L5 of five. short_lists: whether
    queries with fewer than ``k`` judged items count, the ranks they lack as not relevant (as in trec_eval).
    """
    found = sum_of_top(ranking, _relevant(ranking, rel), np.ones(k))
    enough = (ranking.judgments.grade_counts.sum(axis=1) >= k) | short_lists
    return PerQuery(np.where(enough, found / k, np.nan), enough.astype(np.float64))


def recall(ranking: Ranking, k: int, rel: int | None = None) -> PerQuery:
    """Share of the query's relevant judged items that are in the top ``k``; a query without one is left out."""
    n_relevant = _n_relevant(ranking.judgments, rel)
    found = sum_of_top(ranking, _relevant(ranking, rel), np.ones(k))
    return PerQuery(np.minimum(divide(found, n_relevant), 1.0), (n_relevant > 0).astype(np.float64))


def average_precision(ranking: Ranking, rel: int | None = None, k: int | None = None) -> PerQuery:
    """Mean over the query's relevant items of the precision at their rank, 0 for one below rank ``k`` or unranked.

    Its mean over queries is MAP. A query without a relevant item is left out.
    Oracle: ir_measures AP (tests/). Source of the cutoff's denominator, all relevant items: trec_eval's map_cut.
    """
    ties = _Ties.of(ranking, _relevant(ranking, rel))
    # Given that the item at a rank of the tie is relevant, each of the other t - 1 is so with chance (r - 1) / (t - 1).
    others = np.divide(ties.relevant - 1, ties.size - 1, out=np.zeros(ties.size.shape), where=ties.size > 1)
    above = ties.relevant_before + 1 + (ties.place - 1) * others
    gains = ties.relevant / ties.size * above / (ranking.positions + 1)
    inside = ranking.positions < (ranking.positions.size if k is None else k)
    sums = _summed(ranking, inside, gains[inside])
    n_relevant = _n_relevant(ranking.judgments, rel)
    return PerQuery(np.minimum(divide(sums, n_relevant), 1.0), (n_relevant > 0).astype(np.float64))


def reciprocal_rank(ranking: Ranking, rel: int | None = None, k: int | None = None) -> PerQuery:
    """1 / rank of the first relevant item, 0 where there is none in the top ``k``; its mean over queries is MRR.

    A query without a relevant judged item is left out. Oracle: ir_measures RR (tests/).
    """
    ties = _Ties.of(ranking, _relevant(ranking, rel))
    inside = (ties.relevant > 0) & (ties.relevant_before == 0) & (ties.place <= ties.size - ties.relevant + 1)
    inside &= ranking.positions < (ranking.positions.size if k is None else k)
    size, relevant, place = ties.size[inside], ties.relevant[inside], ties.place[inside]
    # The first relevant of r in a tie of t stands at place j in C(t - j, r - 1) of C(t, r) orders.
    chance = np.exp(_log_choose(size - place, relevant - 1) - _log_choose(size, relevant))
    reciprocal = chance / (ranking.positions[inside] + 1)
    sums = _summed(ranking, inside, reciprocal)
    has_relevant = _n_relevant(ranking.judgments, rel) > 0
    return PerQuery(np.where(has_relevant, np.minimum(sums, 1.0), np.nan), has_relevant.astype(np.float64))


@dataclass(frozen=True)
class _Ties:
    """Of each ranked pair, (N,) float64: the size of its tie, its place in it (from 1), the relevant ones in it, and
    those of its query ranked above the tie."""

    size: Floats
    place: Floats
    relevant: Floats
    relevant_before: Floats

    @classmethod
    def of(cls, ranking: Ranking, relevant: Floats) -> _Ties:
        """relevant: (N,) 0 or 1, in ranked order."""
        starts, sizes = ranking.tie_starts, ranking.tie_sizes
        summed = np.concatenate(([0.0], np.cumsum(relevant)))
        in_tie = summed[starts + sizes] - summed[starts]
        query_start = starts - ranking.positions[starts]
        before = summed[starts] - summed[query_start]
        place = (np.arange(relevant.size) - np.repeat(starts, sizes) + 1).astype(np.float64)
        return cls(
            np.repeat(sizes.astype(np.float64), sizes), place, np.repeat(in_tie, sizes), np.repeat(before, sizes)
        )


def _summed(ranking: Ranking, inside: NDArray[np.bool_], gains: Floats) -> Floats:
    """(Q,) float64: the gains of the pairs ``inside``, by query."""
    queries, n_queries = ranking.queries[inside], ranking.judgments.n_queries
    return np.bincount(queries, weights=gains, minlength=n_queries).astype(np.float64)  # no pair would give integers


def _relevant(ranking: Ranking, rel: int | None) -> Floats:
    return (ranking.grades >= _lowest(ranking.judgments, rel)).astype(np.float64)


def _n_relevant(judgments: Judgments, rel: int | None) -> Floats:
    found: Floats = judgments.grade_counts[:, _lowest(judgments, rel) :].sum(axis=1, dtype=np.float64)
    return found


def _lowest(judgments: Judgments, rel: int | None) -> int:
    return relevant_grade(judgments.n_grades) if rel is None else rel


def _log_choose(n: Floats, k: Floats) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), dtype=np.float64)
