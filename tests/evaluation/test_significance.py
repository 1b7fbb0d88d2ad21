"""Tests by query, corrections and the detectable difference, with scipy and statsmodels as oracles."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from pertinent.errors import DataError
from pertinent.evaluation.metrics import PerQuery
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.evaluation.significance import (
    adjust,
    detectable_difference,
    difference_error,
    paired_difference,
    randomisation_test,
    t_interval,
    t_test,
)
from pertinent.evaluation.statistics import Summed


def shares(values) -> Summed:
    found = np.asarray(values, dtype=float)
    return Summed.mean_of(PerQuery(found, (~np.isnan(found)).astype(float)))


def two(seed: int, n: int, gain: float = 0.0):
    generator = np.random.default_rng(seed)
    base = generator.random(n)
    return base + gain + 0.2 * generator.normal(size=n), base


def test_the_t_test_is_the_paired_one_of_scipy() -> None:
    ours, theirs = two(0, 25, 0.05)
    system, baseline = shares(ours), shares(theirs)
    error, difference = difference_error(system, baseline), (ours - theirs).mean()
    assert t_test(difference, error, 25) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-7)
    lower = stats.ttest_rel(ours, theirs, alternative="less").pvalue
    assert t_test(difference, error, 25, sided="lower") == pytest.approx(lower, rel=1e-7)
    with_margin = stats.ttest_1samp(ours - theirs, -0.2, alternative="less").pvalue
    assert t_test(difference, error, 25, sided="lower", margin=0.2) == pytest.approx(with_margin, rel=1e-7)
    interval = stats.ttest_rel(ours, theirs).confidence_interval()
    assert t_interval(difference, error, 25) == pytest.approx((interval.low, interval.high), rel=1e-7)


def test_few_queries_are_exchanged_in_every_way() -> None:
    ours, theirs = two(1, 8, 0.1)
    gaps = ours - theirs
    ways = np.array(list(itertools.product([1, -1], repeat=8)))
    expected = (np.abs(ways @ gaps) >= abs(gaps.sum()) - 1e-9).mean()
    assert randomisation_test(shares(ours), shares(theirs)) == pytest.approx(expected)
    assert randomisation_test(shares(ours), shares(theirs), seed=9) == pytest.approx(expected)


def test_many_queries_are_exchanged_at_random_and_agree_with_scipy() -> None:
    ours, theirs = two(2, 60, 0.05)

    def mean(x, y, axis):
        return np.mean(x - y, axis=axis)

    theirs_p = stats.permutation_test(
        (ours, theirs), mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0)
    ).pvalue
    assert 0.01 < theirs_p < 0.5
    assert randomisation_test(shares(ours), shares(theirs), permutations=20_000) == pytest.approx(theirs_p, abs=0.012)


def test_a_p_value_is_never_0_and_is_seeded() -> None:
    ours, theirs = two(3, 60, 1.0)
    assert randomisation_test(shares(ours), shares(theirs), permutations=99) == 0.01
    ours, theirs = two(3, 60, 0.03)
    first, second, third = (
        randomisation_test(shares(ours), shares(theirs), permutations=500, seed=seed) for seed in (1, 1, 2)
    )
    assert first == second != third


def test_queries_that_neither_system_has_a_value_on_do_not_count() -> None:
    ours, theirs = two(4, 9, 0.1)
    padded = [shares([*values, np.nan, np.nan]) for values in (ours, theirs)]
    assert randomisation_test(*padded) == randomisation_test(shares(ours), shares(theirs))
    found = paired_difference(*padded, resamples=0)
    assert found.n_queries == 9
    assert found.t_p_value == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-7)


def test_the_difference_of_two_areas_has_obuchowskis_error_and_a_p_value_near_the_t_tests() -> None:
    generator = np.random.default_rng(6)
    queries = np.repeat(np.arange(80), 6)
    effect = generator.normal(size=80)[queries]
    positive = generator.random(480) < 0.5
    one, other = (positive * gain + effect + generator.normal(size=480) for gain in (1.5, 1.1))
    areas = [PooledAuroc.of(queries, 80, positive, scores) for scores in (one, other)]
    found = paired_difference(*areas, method="analytic")
    # By hand: the placements' differences summed by query, as in Obuchowski 1997.
    summed = np.zeros(80)
    for scores, sign in ((one, 1), (other, -1)):
        above = (scores[positive][:, None] > scores[~positive]).astype(float)
        summed += sign * np.bincount(queries[positive], above.mean(1) - above.mean(), 80) / positive.sum()
        summed += sign * np.bincount(queries[~positive], above.mean(0) - above.mean(), 80) / (~positive).sum()
    error = np.sqrt(80 / 79 * (summed**2).sum())
    assert difference_error(*areas) == pytest.approx(error, rel=1e-9)
    assert found.interval == pytest.approx(t_interval(found.difference, error, 80), rel=1e-9)
    assert found.p_value == pytest.approx(found.t_p_value, abs=0.015)


def test_a_difference_that_is_the_same_on_every_query_is_certain_or_none() -> None:
    base = np.linspace(0.1, 0.5, 30)
    up = paired_difference(shares(base + 0.1), shares(base), resamples=50)
    assert up.t_p_value == 0
    assert up.p_value == pytest.approx(1 / 10_001)
    assert up.detectable == pytest.approx(0, abs=1e-9)
    same = paired_difference(shares(base), shares(base), resamples=50)
    assert (same.difference, same.t_p_value, same.p_value) == (0, 1, 1)
    assert t_test(-0.1, 0.0, 9, sided="lower") == 0
    assert t_test(0.1, 0.0, 9, sided="lower") == 1


def test_one_query_or_an_undefined_figure_has_no_test() -> None:
    alone = paired_difference(shares([0.5]), shares([0.2]))
    assert alone.difference == pytest.approx(0.3)
    assert (alone.interval, alone.p_value, alone.t_p_value, alone.detectable) == (None,) * 4
    undefined = paired_difference(shares([np.nan] * 3), shares([np.nan] * 3))
    assert undefined.difference is None
    assert undefined.p_value is None
    with pytest.raises(DataError, match="2 queries against 3"):
        paired_difference(shares([1, 2]), shares([1, 2, 3]))


def test_no_permutations_or_resamples_leave_their_fields_empty() -> None:
    ours, theirs = two(7, 30)
    found = paired_difference(shares(ours), shares(theirs), resamples=0, permutations=0)
    assert (found.interval, found.share_not_better, found.p_value) == (None, None, None)
    assert found.t_p_value is not None
    assert paired_difference(shares(ours), shares(theirs), method="analytic", resamples=0).interval is not None


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("benjamini-hochberg", "fdr_bh")])
def test_corrections_match_statsmodels(ours, theirs) -> None:
    generator = np.random.default_rng(8)
    for n in (1, 2, 7, 40):
        p = generator.random(n) ** 4
        p[: n // 3] = p[0]  # equal ones
        assert adjust(p.tolist(), ours) == pytest.approx(multipletests(p, method=theirs)[1].tolist())


def test_a_missing_p_value_is_no_test() -> None:
    assert adjust([0.01, None, 0.02], "holm") == [0.02, None, 0.02]
    assert adjust([0.01, None, 0.03], "benjamini-hochberg") == [0.02, None, 0.03]
    assert adjust([0.5, 0.9], "none") == [0.5, 0.9]
    assert adjust([None], "holm") == [None]
    assert adjust([], "holm") == []


@pytest.mark.parametrize("n", [10, 40, 200, 5_000])  # its solver is lost for a handful
def test_the_detectable_difference_matches_statsmodels(n) -> None:
    effect = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
    assert detectable_difference(0.3 / np.sqrt(n), n) == pytest.approx(0.3 * effect, rel=1e-4)
    corrected = TTestPower().solve_power(nobs=n, alpha=0.05 / 6, power=0.9)
    found = detectable_difference(0.3 / np.sqrt(n), n, power=0.9, tests=6)
    assert found == pytest.approx(0.3 * corrected, rel=1e-4)


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    generator, n = np.random.default_rng(10), 30
    shift = detectable_difference(1 / np.sqrt(n), n)
    found = [stats.ttest_1samp(generator.normal(shift, 1, n), 0).pvalue < 0.05 for _ in range(1500)]
    assert 0.77 <= np.mean(found) <= 0.83
