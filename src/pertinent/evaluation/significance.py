"""Two systems on the same queries: their difference, its interval, tests by query, and what the queries could show.

Queries are the units of every test. Many tests at once are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special
from scipy.optimize import brentq

from pertinent.errors import DataError
from pertinent.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    Method,
    bootstrap,
    bootstrap_interval,
    standard_error,
)
from pertinent.evaluation.statistics import Floats, Statistic, value_of

PERMUTATIONS = 10_000
ALPHA = 0.05
POWER = 0.8
Correction = Literal["holm", "benjamini-hochberg", "none"]
_CELLS = 1 << 18  # float64 cells of exchanges drawn at once


@dataclass(frozen=True)
class PairedDifference:
    """Statistic of one system less that of another, on the same queries; every field None where it is undefined.

    interval: 95%. share_not_better: share of resamples whose difference is <= 0 (a one-sided p-value of sorts), None
    without a bootstrap. p_value: two-sided, of the randomisation test, t_p_value: of the t-test. detectable: the
    smallest true difference that the t-test would find with a chance of 80% on so many queries. n_queries: that count.
    """

    difference: float | None
    interval: Interval | None = None
    share_not_better: float | None = None
    p_value: float | None = None
    t_p_value: float | None = None
    detectable: float | None = None
    n_queries: int = 0


def paired_difference(
    system: Statistic,
    baseline: Statistic,
    *,
    method: Method = "bootstrap",
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> PairedDifference:
    """How much ``system`` is above ``baseline``, both recomputed on the same resamples of queries.

    Far narrower than the difference of two intervals, since easy and hard queries are so for both systems.
    With fewer than two queries only the difference is given; with no permutations no p_value, and with no resamples and
    the bootstrap no interval. Raises DataError if the numbers of queries differ.
    """
    if system.n_queries != baseline.n_queries:
        raise DataError(f"paired difference: {system.n_queries} queries against {baseline.n_queries}")
    values = value_of(system), value_of(baseline)
    n = int((system.counted | baseline.counted).sum())
    if values[0] is None or values[1] is None:
        return PairedDifference(None, n_queries=n)
    difference = values[0] - values[1]
    if n < 2:
        return PairedDifference(difference, n_queries=n)
    interval, share = None, None
    error = difference_error(system, baseline)
    if method == "analytic":
        interval = t_interval(difference, error, n)
    elif resamples:
        drawn = bootstrap({"system": system, "baseline": baseline}, resamples=resamples, seed=seed)
        gaps = drawn["system"] - drawn["baseline"]
        influence = system.influence() - baseline.influence()
        interval = bootstrap_interval(gaps, difference, influence, system.counted | baseline.counted)
        share = None if interval is None else float((gaps[np.isfinite(gaps)] <= 0).mean())
    return PairedDifference(
        difference,
        interval,
        share,
        randomisation_test(system, baseline, permutations=permutations, seed=seed),
        t_test(difference, error, n),
        detectable_difference(error, n),
        n,
    )


def difference_error(system: Statistic, baseline: Statistic) -> float | None:
    """Standard error of ``system`` less ``baseline``, from the difference of their influences by query."""
    return standard_error(system.influence() - baseline.influence(), system.counted | baseline.counted)


def t_interval(difference: float, error: float | None, n: int, level: float = LEVEL) -> Interval | None:
    """The difference and the t quantile of its standard error on both sides. n: queries."""
    if error is None:
        return None
    reach = error * float(special.stdtrit(n - 1, (1 + level) / 2))
    return difference - reach, difference + reach


def t_test(
    difference: float, error: float | None, n: int, *, sided: Literal["two", "lower"] = "two", margin: float = 0.0
) -> float | None:
    """p-value of a difference of ``-margin``, given its standard error over n queries.

    sided: "lower" asks only whether the difference is below. For a mean over queries it is the paired t-test. Where the
    difference is the same on every query, p is 1 for a difference of ``-margin``, else 0. None without an error.
    """
    if error is None:
        return None
    gap = difference + margin
    if error <= 1e-9 * max(abs(gap), abs(difference)) or error == 0:  # what rounding leaves of none
        shown = gap != 0 and (sided == "two" or gap < 0)
        return 0.0 if shown else 1.0
    found = gap / error
    return float(special.stdtr(n - 1, found) if sided == "lower" else 2 * special.stdtr(n - 1, -abs(found)))


def randomisation_test(
    system: Statistic, baseline: Statistic, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> float | None:
    """Two-sided p-value of no difference: the share of exchanges of the two systems that part them at least as far.

    Each query's two results are exchanged or not, with a chance of a half. All 2^Q ways are taken where these are no more
    than ``permutations``, else as many are drawn, and the observed one is counted with them. None where undefined.
    Source: Smucker et al. 2007, doi:10.1145/1321440.1321528.
    """
    active = np.flatnonzero(system.counted | baseline.counted)
    observed = float(system.exchanged(baseline, np.zeros((1, system.n_queries)))[0])
    if not np.isfinite(observed) or permutations < 1 or active.size < 2:
        return None
    # Rounding must not tell an exchange from its mirror image.
    bar = abs(observed) * (1 - 1e-9) - 1e-14
    every = 2**active.size <= permutations
    total, as_far = 0, 0
    for swaps in _swaps(system.n_queries, active, permutations, seed):
        found = system.exchanged(baseline, swaps)
        found = found[np.isfinite(found)]
        total += found.size
        as_far += int((np.abs(found) >= bar).sum())
    return as_far / total if every else (as_far + 1) / (total + 1)


def _swaps(n_queries: int, active: np.ndarray, permutations: int, seed: int) -> Iterator[Floats]:
    """Batches (b, Q) of 0 and 1: all ways to exchange the active queries, or a draw of them."""
    n = active.size
    every = 2**n <= permutations
    generator = np.random.default_rng(seed)
    total = 2**n if every else permutations
    rows = max(1, _CELLS // n_queries)
    for start in range(0, total, rows):
        size = min(rows, total - start)
        swaps = np.zeros((size, n_queries))
        if every:
            swaps[:, active] = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1
        else:
            swaps[:, active] = generator.integers(0, 2, size=(size, n), dtype=np.uint8)
        yield swaps


def detectable_difference(
    error: float | None, n: int, *, alpha: float = ALPHA, power: float = POWER, tests: int = 1
) -> float | None:
    """The smallest true difference that a two-sided t-test at ``alpha / tests`` finds with a chance of ``power``.

    error: standard error of the difference over n queries. tests: how many are corrected for, at worst (Bonferroni).
    None without an error. Oracle: statsmodels TTestPower (tests/).
    """
    if error is None:
        return None
    if error == 0:
        return 0.0
    bar = float(-special.stdtrit(n - 1, alpha / tests / 2))

    def lacking(shift: float) -> float:
        # A difference found with the wrong sign is none found.
        return float(1 - special.nctdtr(n - 1, shift, bar)) - power

    high = bar + 1.0
    while lacking(high) < 0:
        high *= 2
    return error * float(brentq(lacking, 0.0, high, xtol=1e-10))


def adjust(p_values: Sequence[float | None], method: Correction = "holm") -> list[float | None]:
    """The p-values corrected for their number; None stays None and is no test.

    "holm" bounds the chance of any false finding, "benjamini-hochberg" the expected share of false ones among the
    findings. Sources: Holm 1979, jstor 4615733; Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    Oracle: statsmodels multipletests (tests/).
    """
    known = [index for index, p in enumerate(p_values) if p is not None]
    found = np.array([p_values[index] for index in known], dtype=np.float64)
    order = np.argsort(found, kind="stable")
    n, ranks = found.size, np.arange(1, found.size + 1)
    if method == "holm":
        ranked = np.maximum.accumulate(found[order] * (n - ranks + 1))
    elif method == "benjamini-hochberg":
        ranked = np.minimum.accumulate((found[order] * n / ranks)[::-1])[::-1]
    else:
        ranked = found[order]
    corrected = np.empty(n)
    corrected[order] = np.minimum(ranked, 1.0)
    result: list[float | None] = [None] * len(p_values)
    for index, p in zip(known, corrected.tolist(), strict=True):
        result[index] = p
    return result
