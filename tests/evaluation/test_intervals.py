"""The bootstrap over queries: exact against repeated data, seeded, and of sane coverage."""

import numpy as np
import pytest

from pertinent.errors import DataError
from pertinent.evaluation import intervals, pooled
from pertinent.evaluation.classification import auroc, kappa_of, kappa_terms, quadratic_kappa, ratio_of
from pertinent.evaluation.intervals import bootstrap, percentile_interval, resample_weights
from pertinent.evaluation.metrics import Judgments, PerQuery, ndcg, pair_accuracy, rank
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.evaluation.significance import paired_difference
from pertinent.evaluation.statistics import Summed, value_of


def pairs(seed: int = 0, n_queries: int = 12, n_scores: int = 7):
    generator = np.random.default_rng(seed)
    queries = np.repeat(np.arange(n_queries), generator.integers(2, 9, n_queries))
    grades = generator.integers(0, 5, queries.size)
    scores = generator.integers(0, n_scores, queries.size) + grades
    return queries, grades, scores.astype(np.float64)


def repeated_rows(queries, weights):
    """Rows of the data in which query q occurs weights[q] times, and a new number for each copy."""
    rows, copies = [], []
    for query, times in enumerate(weights.astype(int)):
        for _ in range(times):
            mine = np.flatnonzero(queries == query)
            rows.append(mine)
            copies.append(np.full(mine.size, len(copies)))
    return np.concatenate(rows), np.concatenate(copies)


def test_weighted_statistics_are_those_of_the_repeated_queries() -> None:
    queries, grades, scores = pairs()
    judgments = Judgments.of(queries, grades, 5)
    ranking = rank(judgments, scores)
    predicted = np.clip(scores.astype(int) // 2, 0, 4)
    auroc_4 = PooledAuroc.of(queries, 12, grades >= 3, scores)
    kappa = Summed.of_pairs(queries, 12, kappa_terms(grades, predicted), kappa_of)
    ndcg_10, ordered = Summed.mean_of(ndcg(ranking, 10)), Summed.mean_of(pair_accuracy(ranking))
    for weights in next(resample_weights(12, 8, seed=1)):
        rows, copies = repeated_rows(queries, weights)
        again = rank(Judgments.of(copies, grades[rows], 5), scores[rows])
        one = weights[None]
        assert auroc_4.under(one)[0] == pytest.approx(auroc(grades[rows] >= 3, scores[rows]), abs=1e-12)
        assert kappa.under(one)[0] == pytest.approx(quadratic_kappa(grades[rows], predicted[rows]), abs=1e-12)
        assert ndcg_10.under(one)[0] == pytest.approx(ndcg(again, 10).mean, abs=1e-12)
        assert ordered.under(one)[0] == pytest.approx(pair_accuracy(again).mean, abs=1e-12)


def test_value_is_the_statistic_of_the_data_and_none_where_undefined() -> None:
    queries, grades, scores = pairs()
    assert value_of(PooledAuroc.of(queries, 12, grades >= 3, scores)) == pytest.approx(auroc(grades >= 3, scores))
    assert value_of(PooledAuroc.of(queries, 12, grades >= 9, scores)) is None
    assert value_of(Summed.mean_of(PerQuery(np.array([np.nan]), np.zeros(1)))) is None
    assert value_of(Summed.mean_of(PerQuery(np.array([0.2, np.nan, 0.6]), np.array([1.0, 0, 3])))) == pytest.approx(0.5)


def test_resamples_draw_as_many_queries_as_there_are_and_depend_on_the_seed_alone(monkeypatch) -> None:
    whole = np.concatenate(list(resample_weights(30, 50, seed=5)))
    assert whole.shape == (50, 30)
    assert (whole.sum(axis=1) == 30).all()
    assert whole.mean() == 1
    assert whole.var() == pytest.approx(1 - 1 / 30, rel=0.1)
    monkeypatch.setattr(intervals, "_CELLS", 70)
    batches = list(resample_weights(30, 50, seed=5))
    assert len(batches) == 25
    assert (np.concatenate(batches) == whole).all()
    assert (np.concatenate(list(resample_weights(30, 50, seed=6))) != whole).any()


def test_auroc_does_not_depend_on_how_resamples_are_batched(monkeypatch) -> None:
    queries, grades, scores = pairs()
    statistic = PooledAuroc.of(queries, 12, grades >= 3, scores)
    weights = next(resample_weights(12, 20, seed=3))
    whole = statistic.under(weights)
    monkeypatch.setattr(pooled, "_CELLS", 3 * queries.size)
    assert (statistic.under(weights) == whole).all()


def test_interval_is_the_middle_95_percent() -> None:
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.arange(101.0), level=0.8) == pytest.approx((10.0, 90.0))


def test_interval_is_none_where_too_many_resamples_are_undefined() -> None:
    assert percentile_interval([]) is None
    assert percentile_interval([np.nan] * 6 + [0.5] * 94) is None
    assert percentile_interval([np.nan] * 5 + [0.5] * 95) == (0.5, 0.5)


def test_no_resample_gives_no_draw() -> None:
    statistic = Summed(np.ones((3, 2)), ratio_of)
    assert bootstrap({"a": statistic}, resamples=0)["a"].size == 0
    assert bootstrap({}) == {}


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # Queries differ much more than pairs within one do: resampling pairs would cover about half the time.
    # The true mean of x is 0; the true AUROC of a query effect plus a shift of 1 over noise of variance 2 is 0.76.
    from scipy.stats import norm

    generator = np.random.default_rng(0)
    truth = norm.cdf(1 / 2)
    queries = np.repeat(np.arange(60), 8)
    covered = {"mean": 0, "auroc": 0}
    n_worlds = 200
    for world in range(n_worlds):
        effect = generator.normal(size=60)[queries]
        x = effect + 0.3 * generator.normal(size=480)
        positive = generator.random(480) < 0.5
        scores = effect + generator.normal(size=480) + positive
        mean = Summed.of_pairs(queries, 60, np.stack([x, np.ones(480)], axis=1), ratio_of)
        area = PooledAuroc.of(queries, 60, positive, scores)
        found = bootstrap({"mean": mean, "auroc": area}, resamples=200, seed=world)
        for name, value in (("mean", 0.0), ("auroc", truth)):
            low, high = percentile_interval(found[name])
            covered[name] += low <= value <= high
    # 95% of 200 is 190; the standard deviation of a count is 3.1, and percentile intervals are a little narrow.
    assert 178 <= covered["mean"] <= 199
    assert 178 <= covered["auroc"] <= 199


def shares(values) -> Summed:
    return Summed.mean_of(PerQuery(np.asarray(values, dtype=float), np.ones(len(values))))


def test_a_constant_gain_over_a_baseline_is_certain_though_both_vary() -> None:
    baseline = np.random.default_rng(0).random(40)
    found = paired_difference(shares(baseline + 0.1), shares(baseline))
    assert found.difference == pytest.approx(0.1)
    assert found.interval == pytest.approx((0.1, 0.1))
    assert found.share_not_better == 0.0
    reverse = paired_difference(shares(baseline), shares(baseline + 0.1))
    assert reverse.share_not_better == 1.0


def test_a_system_against_itself_is_never_better() -> None:
    found = paired_difference(shares([0.1, 0.5, 0.7]), shares([0.1, 0.5, 0.7]))
    assert (found.difference, found.interval, found.share_not_better) == (0.0, (0.0, 0.0), 1.0)


def test_a_difference_of_one_query_has_no_interval_and_of_none_no_value() -> None:
    assert paired_difference(shares([0.5]), shares([0.25])).difference == 0.25
    assert paired_difference(shares([0.5]), shares([0.25])).interval is None
    undefined = Summed(np.zeros((2, 2)), ratio_of)
    assert paired_difference(undefined, shares([0.1, 0.2])).difference is None


def test_statistics_over_different_queries_are_refused() -> None:
    with pytest.raises(DataError, match="3 queries against 2"):
        paired_difference(shares([1, 2, 3]), shares([1, 2]))
    with pytest.raises(DataError, match=r"same queries, at least one, found \[2, 3\]"):
        bootstrap({"a": shares([1, 2, 3]), "b": shares([1, 2])})
