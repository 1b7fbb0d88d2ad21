"""Numbers of judged pairs as functions of a weight for each query: what a bootstrap, a sandwich and a test need.

A statistic is computed from sums over queries, so it can be had under any weights of the queries (a resample weighs each
by the times it was drawn), has a derivative by each weight (its influence, from which a standard error follows), and can
be had with two systems exchanged on some queries (a randomisation test).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.evaluation.classification import ratio_of
from pertinent.evaluation.metrics import PerQuery

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Formula = Callable[[Floats], Floats]

_STEP = 1e-5  # of the numeric derivative, relative: its error is the step's square, that of rounding 1e-11


class Statistic(Protocol):
    """A number computed from judged pairs under a weight for each query."""

    @property
    def n_queries(self) -> int:
        """Number of queries, Q."""

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(Q,) bool: the queries that bear on the number; the others have no value of their own and weigh nothing."""

    def under(self, weights: Floats) -> Floats:
        """The statistic under each row of ``weights`` (B, Q): (B,) float64, NaN where it is undefined."""

    def influence(self) -> Floats:
        """(Q,) float64: the derivative by each query's weight at weights of 1; sums to 0. NaN where undefined."""

    def exchanged(self, other: Any, swaps: Floats) -> Floats:
        """This statistic less ``other``, a second system's of the same kind, with some queries exchanged between them.

        swaps: (B, Q), 1 where the two systems change places, else 0. Returns (B,) float64.
        """


@dataclass(frozen=True)
class Summed:
    """A formula over sums of per-query terms.

    sums: (Q, m) float64. formula: (B, m) -> (B,), NaN where undefined; the same for sums all made larger by one factor.
    """

    sums: Floats
    formula: Formula

    @classmethod
    def of_pairs(cls, queries: Ints, n_queries: int, terms: Floats, formula: Formula) -> Summed:
        """From terms of pairs, (N, m), and the query of each pair, (N,) in 0..n_queries-1."""
        columns = [np.bincount(queries, weights=column, minlength=n_queries) for column in terms.T]
        return cls(np.stack(columns, axis=1), formula)

    @classmethod
    def mean_of(cls, per_query: PerQuery) -> Summed:
        """The weighted mean of a metric over the queries that count."""
        values = np.where(per_query.weights > 0, per_query.values, 0.0)
        return cls(np.stack([values * per_query.weights, per_query.weights], axis=1), ratio_of)

    @property
    def n_queries(self) -> int:
        """Number of queries, Q."""
        return len(self.sums)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(Q,) bool: queries with a term that is not 0; see Statistic."""
        return np.asarray((self.sums != 0).any(axis=1))

    def under(self, weights: Floats) -> Floats:
        """The formula of the weighted sums; see Statistic."""
        return self.formula(weights @ self.sums)

    def influence(self) -> Floats:
        """By the formula's numeric derivative at the sums; see Statistic."""
        totals = self.sums.sum(axis=0)
        if totals.size == 0 or not np.abs(totals).max() > 0:
            return np.full(self.n_queries, np.nan)
        steps = _STEP * np.where(totals != 0, np.abs(totals), np.abs(totals).max())
        moved = totals + np.concatenate([np.diag(steps), -np.diag(steps)])
        up, down = np.split(self.formula(moved), 2)
        return np.asarray(self.sums @ ((up - down) / (2 * steps)), dtype=np.float64)

    def exchanged(self, other: Summed, swaps: Floats) -> Floats:
        """Exact: the sums of the exchanged queries change sides; see Statistic."""
        if self.formula is not other.formula or self.sums.shape != other.sums.shape:
            raise DataError("exchange: expected the same statistic of two systems on the same queries")
        moved = swaps @ (other.sums - self.sums)
        return self.formula(self.sums.sum(axis=0) + moved) - other.formula(other.sums.sum(axis=0) - moved)


def value_of(statistic: Statistic) -> float | None:
    """The statistic of the data as they are; None where it is undefined."""
    value = float(statistic.under(np.ones((1, statistic.n_queries)))[0])
    return value if np.isfinite(value) else None
