"""Influence by query against the jackknife and numeric derivatives; exchanges of two systems against doing so by hand."""

import numpy as np
import pytest
import statsmodels.api as sm

from pertinent.errors import DataError
from pertinent.evaluation.classification import most_likely
from pertinent.evaluation.intervals import analytic_interval, standard_error
from pertinent.evaluation.measures import parse_measure, stage_measures, statistic_of
from pertinent.evaluation.metrics import Judgments, PerQuery
from pertinent.evaluation.pooled import PooledAuprc, PooledAuroc
from pertinent.evaluation.statistics import Summed, value_of
from pertinent.evaluation.systems import Scored, SystemScores


def scored(seed: int = 0, n_queries: int = 30, name: str = "model", skill: float = 1.5) -> Scored:
    generator = np.random.default_rng(99)
    queries = np.repeat(np.arange(n_queries), generator.integers(3, 12, n_queries))
    grades = generator.integers(0, 5, queries.size)
    logits = np.random.default_rng(seed).normal(size=(queries.size, 5)) + skill * np.eye(5)[grades]
    probs = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2)  # some ties
    probs /= probs.sum(axis=1, keepdims=True)
    system = SystemScores(name, probs @ np.arange(5), probs, most_likely(probs), True)
    return Scored(Judgments.of(queries, grades, 5), system)


@pytest.mark.parametrize("key", [key for key in stage_measures(5) if key != "ece"])
def test_influence_is_the_derivative_by_the_weight_of_each_query(key) -> None:
    statistic = statistic_of(stage_measures(5)[key], scored())
    n, step = statistic.n_queries, 1e-4
    ups, downs = (statistic.under(np.ones((n, n)) + sign * step * np.eye(n)) for sign in (1, -1))
    influence = statistic.influence()
    np.testing.assert_allclose(influence, (ups - downs) / (2 * step), atol=1e-7)
    assert influence.sum() == pytest.approx(0, abs=1e-8)


def test_a_mean_over_queries_has_the_textbook_error() -> None:
    values = np.array([0.2, np.nan, 0.6, 0.8, 0.0])  # even about .4, so nothing is moved for skewness
    statistic = Summed.mean_of(PerQuery(values, np.array([1.0, 0, 1, 1, 1])))
    kept = values[[0, 2, 3, 4]]
    error = standard_error(statistic.influence(), statistic.counted)
    assert error == pytest.approx(kept.std(ddof=1) / 2, rel=1e-9)
    low, high = analytic_interval(statistic)
    assert (low + high) / 2 == pytest.approx(kept.mean())
    assert high - low == pytest.approx(2 * 3.182446 * error, rel=1e-6)  # t of 3 degrees


def test_the_sandwich_of_a_share_of_pairs_is_that_of_statsmodels_with_clusters() -> None:
    each = scored()
    statistic = statistic_of(parse_measure("Accuracy"), each)
    hits = (each.predicted == each.judgments.grades).astype(float)
    groups = {"groups": each.judgments.queries, "use_correction": False}
    theirs = sm.OLS(hits, np.ones(hits.size)).fit(cov_type="cluster", cov_kwds=groups).bse[0]
    n = each.judgments.n_queries
    ours = standard_error(statistic.influence(), statistic.counted)
    assert ours == pytest.approx(theirs * np.sqrt(n / (n - 1)), rel=1e-7)


def test_the_error_of_auroc_is_delongs_where_a_query_is_one_pair() -> None:
    # DeLong's variance, written out: that of the placements of each class over its size.
    generator = np.random.default_rng(3)
    positive = generator.random(200) < 0.4
    scores = generator.integers(0, 30, 200) + 5.0 * positive
    placed = (scores[positive][:, None] > scores[~positive]) + 0.5 * (scores[positive][:, None] == scores[~positive])
    m, n = placed.shape
    expected = placed.mean(1).var() / m + placed.mean(0).var() / n
    statistic = PooledAuroc.of(np.arange(200), 200, positive, scores)
    found = standard_error(statistic.influence(), statistic.counted)
    assert found == pytest.approx(np.sqrt(expected * 200 / 199), rel=1e-9)


@pytest.mark.parametrize("name", ["nDCG@5", "QWK", "Accuracy", "PairAccuracy", "F1@3", "LogLoss"])
def test_an_exchange_is_that_of_the_two_systems_results_on_those_queries(name) -> None:
    one, other = scored(0), scored(1, name="other")
    measure = parse_measure(name)
    swaps = np.random.default_rng(5).integers(0, 2, (6, one.judgments.n_queries)).astype(float)
    found = statistic_of(measure, one).exchanged(statistic_of(measure, other), swaps)
    for row, swap in enumerate(swaps):
        moved = swap[one.judgments.queries].astype(bool)
        mixed = []
        for first, second in ((one, other), (other, one)):
            probs = np.where(moved[:, None], second.probs, first.probs)
            system = SystemScores("mixed", probs @ np.arange(5), probs, most_likely(probs), True)
            mixed.append(value_of(statistic_of(measure, Scored(one.judgments, system))))
        assert found[row] == pytest.approx(mixed[0] - mixed[1], abs=1e-12)


@pytest.mark.parametrize("kind", [PooledAuroc, PooledAuprc])
def test_exchanging_every_query_of_an_area_turns_the_difference_round(kind) -> None:
    one, other = scored(0), scored(1, name="other")
    positive = one.judgments.grades >= 3
    areas = [kind.by(each.sorted_by(3), positive) for each in (one, other)]
    n = one.judgments.n_queries
    difference = value_of(areas[0]) - value_of(areas[1])
    found = areas[0].exchanged(areas[1], np.array([np.zeros(n), np.ones(n)]))
    assert found == pytest.approx([difference, -difference], abs=1e-12)


def test_what_is_undefined_has_no_influence_and_no_interval() -> None:
    same = PooledAuroc.of(np.arange(5), 5, np.ones(5, dtype=bool), np.arange(5.0))
    assert np.isnan(same.influence()).all()
    assert analytic_interval(same) is None
    nothing = Summed.mean_of(PerQuery(np.full(3, np.nan), np.zeros(3)))
    assert np.isnan(nothing.influence()).all()
    assert analytic_interval(nothing) is None
    one = Summed.mean_of(PerQuery(np.array([0.4, np.nan]), np.array([1.0, 0.0])))
    assert value_of(one) == 0.4
    assert analytic_interval(one) is None


def test_only_the_same_statistic_can_be_exchanged() -> None:
    each = scored()
    accuracy, kappa = (statistic_of(parse_measure(name), each) for name in ("Accuracy", "QWK"))
    with pytest.raises(DataError, match="expected the same statistic of two systems"):
        accuracy.exchanged(kappa, np.zeros((1, 30)))
    areas = [statistic_of(parse_measure(name), each) for name in ("AUROC@3", "AUPRC@3")]
    with pytest.raises(DataError, match="expected the same statistic of two systems"):
        areas[0].exchanged(areas[1], np.zeros((1, 30)))
