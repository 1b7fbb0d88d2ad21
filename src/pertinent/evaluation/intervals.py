"""95% intervals of statistics of judged pairs: a bootstrap over queries, and the sandwich (delta method) by query.

Queries are drawn, not pairs, since pairs of one query are alike. Resamples depend only on the seed and the number of
queries, so two systems measured with one seed are measured on the same resamples.

Cost for B resamples: B x Q for the weights, B x Q x few for a sum over queries, and B x N for one AUROC, which sorts
once and then takes about 6 ns a pair and resample: 10,000 pairs and 1,000 resamples take about 0.06 s. The sandwich
costs one pass over the pairs, so it is the one for millions of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pertinent.errors import DataError
from pertinent.evaluation.statistics import Floats, Statistic, value_of

RESAMPLES = 1000
LEVEL = 0.95
Interval = tuple[float, float]
Method = Literal["bootstrap", "analytic"]
# float64 cells of weights drawn at once.
_CELLS = 1 << 15


def intervals_of(
    statistics: Mapping[str, Statistic], *, method: Method = "bootstrap", resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval | None]:
    """A 95% interval of every statistic by name, None where it has none; the bootstrap's are on the same resamples."""
    if method == "analytic":
        return {name: analytic_interval(statistic) for name, statistic in statistics.items()}
    drawn = bootstrap(statistics, resamples=resamples, seed=seed)
    return {
        name: percentile_interval(drawn[name], n_queries=int(statistic.counted.sum()))
        for name, statistic in statistics.items()
    }


def resample_weights(n_queries: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Batches (b, Q) float64 of resamples: how often each query was drawn, Q draws with replacement a row.

    The rows depend on the seed and the number of queries only, not on how they are batched.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _CELLS // max(n_queries, 1))
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        drawn = generator.integers(0, n_queries, size=(n, n_queries)) + n_queries * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * n_queries)
        yield counts.reshape(n, n_queries).astype(np.float64)


def bootstrap(statistics: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Floats]:
    """Every statistic under the same resamples of queries: name -> (resamples,) float64, NaN where undefined.

    Raises DataError if the statistics are not over the same number of queries, or that number is 0.
    """
    sizes = {statistic.n_queries for statistic in statistics.values()}
    if not sizes:
        return {}
    if len(sizes) > 1 or sizes == {0}:
        raise DataError(f"bootstrap: expected statistics over the same queries, at least one, found {sorted(sizes)}")
    drawn: dict[str, list[Floats]] = {name: [np.empty(0)] for name in statistics}
    for weights in resample_weights(sizes.pop(), resamples, seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic.under(weights))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def percentile_interval(drawn: ArrayLike, level: float = LEVEL, *, n_queries: int | None = None) -> Interval | None:
    """The middle ``level`` of the resampled values, linearly interpolated.

    n_queries: of the statistic; the middle is then wider by what a Student's t of so many is wider than a normal (the
    expanded percentile interval of Hesterberg 2015, doi:10.1080/00031305.2015.1089789), without which 20 queries cover
    92%. None where no value was drawn or the statistic is undefined in over 5% of the resamples: the interval of the
    rest would be too narrow. Source: Efron 1979, doi:10.1214/aos/1176344552 (percentile method).
    """
    values = np.asarray(drawn, dtype=np.float64)
    defined = values[np.isfinite(values)]
    if defined.size == 0 or defined.size < 0.95 * values.size:
        return None
    tail = (1 - level) / 2
    if n_queries is not None:
        if n_queries < 2:
            return None
        tail = float(stats.norm.cdf(np.sqrt(n_queries / (n_queries - 1)) * stats.t.ppf(tail, n_queries - 1)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def standard_error(influence: Floats, counted: ArrayLike) -> float | None:
    """Of a statistic, or of a difference of two, from its influence by query; None under two queries.

    influence: (Q,), see Statistic. counted: (Q,) bool. Of a mean over queries it is the textbook one. Elsewhere it is the
    clustered sandwich of the delta method, with the factor n / (n - 1). Source: Liang and Zeger 1986,
    doi:10.1093/biomet/73.1.13.
    """
    n = int(np.sum(counted))
    if n < 2 or not np.isfinite(influence).all():
        return None
    return float(np.sqrt(n / (n - 1) * np.sum(influence**2)))


def analytic_interval(statistic: Statistic, level: float = LEVEL) -> Interval | None:
    """The value and the Student's t quantile of its standard error on both sides; None where it is undefined.

    It may reach beyond the range of the metric where the value is near its end and queries are few.
    """
    value, counted = value_of(statistic), statistic.counted
    error = standard_error(statistic.influence(), counted)
    if value is None or error is None:
        return None
    reach = error * float(stats.t.ppf((1 + level) / 2, int(counted.sum()) - 1))
    return value - reach, value + reach
