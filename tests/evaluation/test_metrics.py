"""Ranking metrics: hand-worked values, invariants, and ir_measures and scikit-learn as oracles."""

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from pertinent.errors import DataError
from pertinent.evaluation.binary import average_precision, precision, recall, reciprocal_rank
from pertinent.evaluation.metrics import (
    Judgments,
    PerQuery,
    ndcg,
    pair_accuracy,
    rank,
    relevant_grade,
    sdcg,
)

METRICS = {
    "ndcg@3": lambda ranking: ndcg(ranking, 3),
    "ndcg@20": lambda ranking: ndcg(ranking, 20),
    "linear ndcg@3": lambda ranking: ndcg(ranking, 3, "linear"),
    "sdcg@3": lambda ranking: sdcg(ranking, 3),
    "precision@3": lambda ranking: precision(ranking, 3),
    "recall@3": lambda ranking: recall(ranking, 3, 2),
    "average precision": lambda ranking: average_precision(ranking, 2),
    "average precision@3": lambda ranking: average_precision(ranking, 2, 3),
    "reciprocal rank": lambda ranking: reciprocal_rank(ranking, 2),
    "reciprocal rank@2": lambda ranking: reciprocal_rank(ranking, 3, 2),
    "pair_accuracy": pair_accuracy,
}


def ranked(queries, grades, scores, n_grades=5):
    return rank(Judgments.of(queries, grades, n_grades), scores)


def random_pairs(seed, n_queries=40, n_scores=None, max_items=14):
    generator = np.random.default_rng(seed)
    queries = np.repeat(np.arange(n_queries), generator.integers(1, max_items, n_queries))
    grades = generator.integers(0, 5, queries.size)
    scores = generator.normal(size=queries.size) if n_scores is None else generator.integers(0, n_scores, queries.size)
    return queries, grades, scores.astype(np.float64)


def test_ndcg_matches_the_hand_computation() -> None:
    # By score the grades are 1, 2, 0: DCG = 1 + 3/log2(3) = 2.8928; ideal 3 + 1/log2(3) = 3.6309.
    ranking = ranked(["q"] * 3, [2, 1, 0], [0.5, 0.9, 0.1])
    assert ndcg(ranking, 3).mean == pytest.approx(0.79671, abs=1e-5)
    # Linear: (1 + 2/log2(3)) / (2 + 1/log2(3)).
    assert ndcg(ranking, 3, "linear").mean == pytest.approx(0.85972, abs=1e-5)
    assert ndcg(ranking, 1).mean == pytest.approx(1 / 3)


def test_a_tie_that_straddles_the_cutoff_gives_its_mean_gain_to_the_rank_inside() -> None:
    # Scores 3, 2, 2, 2 and gains 1, then 15, 0, 0 (mean 5): DCG@2 = 1 + 5/log2(3); ideal 15 + 1/log2(3).
    ranking = ranked([7] * 4, [1, 4, 0, 0], [3.0, 2.0, 2.0, 2.0])
    expected = (1 + 5 / np.log2(3)) / (15 + 1 / np.log2(3))
    assert ndcg(ranking, 2).mean == pytest.approx(expected, abs=1e-12)


def test_sdcg_has_one_constant_ideal_and_counts_every_query() -> None:
    # Query a: grades 4, 0 in order; b: nothing above the lowest grade. Ideal@2 = 15 (1 + 1/log2(3)).
    ranking = ranked(["a", "a", "b"], [4, 0, 0], [2.0, 1.0, 1.0])
    assert sdcg(ranking, 2).values == pytest.approx([1 / (1 + 1 / np.log2(3)), 0.0])
    assert sdcg(ranking, 2).mean == pytest.approx(0.5 / (1 + 1 / np.log2(3)))


def test_a_query_without_gain_is_left_out_of_ndcg_and_counted() -> None:
    result = ndcg(ranked(["a", "a", "b", "b"], [2, 0, 0, 0], [1.0, 2.0, 1.0, 2.0]), 10)
    assert result.mean == pytest.approx(1 / np.log2(3))
    assert result.n_left_out == 1
    assert result.counted.tolist() == [0]
    assert np.isnan(result.values[1])


def test_precision_at_8_is_over_queries_with_8_judgments_and_counts_l4_and_up() -> None:
    # Query a has 9 items; the best 8 by score have grades 4,3,2,1,0,4,3,2: 4 of 8 are L4 or L5. b has 7 items.
    queries = ["a"] * 9 + ["b"] * 7
    grades = [4, 3, 2, 1, 0, 4, 3, 2, 4] + [4] * 7
    scores = [*range(9, 0, -1), *range(7)]
    result = precision(ranked(queries, grades, scores), 8)
    assert result.mean == 0.5
    assert result.n_left_out == 1


def test_precision_shares_a_tie_at_the_cutoff() -> None:
    # One of the two tied items at ranks 2 and 3 is relevant, so rank 2 holds half a relevant item.
    assert precision(ranked([0] * 3, [4, 4, 0], [2.0, 1.0, 1.0]), 2).mean == 0.75


@pytest.mark.parametrize(("n_grades", "lowest"), [(2, 1), (3, 1), (4, 2), (5, 3), (10, 8)])
def test_relevant_is_the_top_two_grades_but_one_of_two(n_grades, lowest) -> None:
    assert relevant_grade(n_grades) == lowest


def test_pair_accuracy_is_pooled_over_pairs_and_a_tie_counts_half() -> None:
    # a: grades 2,1,0, scores 3,1,1: (2,1) and (2,0) right, (1,0) tied -> 2.5 of 3. b: 1 pair, wrong. c: no pair.
    ranking = ranked(list("aaabbcc"), [2, 1, 0, 0, 1, 3, 3], [3.0, 1.0, 1.0, 2.0, 1.0, 5.0, 6.0])
    result = pair_accuracy(ranking)
    assert result.mean == pytest.approx(2.5 / 4)  # a mean over queries would be 0.4167
    assert result.values[:2] == pytest.approx([2.5 / 3, 0.0])
    assert result.weights.tolist() == [3, 1, 0]


def test_pair_accuracy_matches_counting_every_pair() -> None:
    queries, grades, scores = random_pairs(3, n_scores=5)
    right = total = 0.0
    for i, j in itertools.permutations(range(queries.size), 2):
        if queries[i] == queries[j] and grades[i] > grades[j]:
            total += 1
            right += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
    result = pair_accuracy(ranked(queries, grades, scores))
    assert result.weights.sum() == total
    assert result.mean == pytest.approx(right / total, abs=1e-12)


@pytest.mark.skipif(shutil.which("perl") is None, reason="ir_measures computes this gain with a perl script")
@pytest.mark.parametrize("k", [1, 5, 20])
def test_ndcg_matches_ir_measures_where_no_score_is_tied(k) -> None:
    import ir_measures

    queries, grades, scores = random_pairs(11, n_queries=30, max_items=30)
    qrels = [ir_measures.Qrel(str(q), f"d{i}", int(g)) for i, (q, g) in enumerate(zip(queries, grades, strict=True))]
    # gdeval reads scores as text of few digits, so it gets ranks.
    run = [
        ir_measures.ScoredDoc(str(q), f"d{i}", float(s))
        for i, (q, s) in enumerate(zip(queries, scores.argsort().argsort(), strict=True))
    ]
    measure = ir_measures.nDCG(dcg="exp-log2") @ k
    theirs = {int(m.query_id): m.value for m in ir_measures.iter_calc([measure], qrels, run)}
    ours = ndcg(ranked(queries, grades, scores), k)
    assert ours.counted.size > 20
    for query in ours.counted:
        assert ours.values[query] == pytest.approx(theirs[query], abs=1.01e-5)  # five decimals are theirs


@pytest.mark.parametrize("n_scores", [None, 1, 3])
@pytest.mark.parametrize("gain", ["exponential", "linear"])
def test_ndcg_matches_scikit_learn_ties_included(n_scores, gain) -> None:
    queries, grades, scores = random_pairs(5, n_scores=n_scores)
    gains = 2.0**grades - 1 if gain == "exponential" else grades.astype(float)
    for k in (1, 3, 10):
        ours = ndcg(ranked(queries, grades, scores), k, gain)
        for query in range(40):
            mine = queries == query
            if mine.sum() > 1 and gains[mine].max() > 0:
                theirs = ndcg_score(gains[mine][None], scores[mine][None], k=k, ignore_ties=False)
                assert ours.values[query] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_ties_count_as_the_mean_over_all_ways_to_break_them(metric) -> None:
    grades, scores = [4, 0, 3, 1, 2], np.array([2.0, 2.0, 2.0, 1.0, 1.0])
    broken = []
    for order in itertools.permutations(range(5)):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            untied = np.empty(5)
            untied[list(order)] = np.arange(5, 0, -1)
            broken.append(metric(ranked([0] * 5, grades, untied)).mean)
    assert len(broken) == 12
    assert metric(ranked([0] * 5, grades, scores)).mean == pytest.approx(np.mean(broken), abs=1e-12)


@st.composite
def judged(draw):
    n = draw(st.integers(1, 25))
    rows = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-3, 3))
    queries, grades, scores = zip(*draw(st.lists(rows, min_size=n, max_size=n)), strict=True)
    return np.array(queries), np.array(grades), np.array(scores, dtype=np.float64)


def same(one: PerQuery, other: PerQuery) -> None:
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.weights, other.weights)


@given(judged(), st.sampled_from(sorted(METRICS)), st.sampled_from([lambda s: 10 * s - 3, np.exp, np.cbrt]))
@settings(max_examples=60, deadline=None)
def test_only_the_order_of_scores_counts(pairs, name, rescale) -> None:
    queries, grades, scores = pairs
    same(METRICS[name](ranked(queries, grades, rescale(scores))), METRICS[name](ranked(queries, grades, scores)))


@given(judged(), st.sampled_from(sorted(METRICS)), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_does_not_count(pairs, name, seed) -> None:
    queries, grades, scores = pairs
    order = np.random.default_rng(seed).permutation(queries.size)
    shuffled = ranked(queries[order], grades[order], scores[order])
    same(METRICS[name](shuffled), METRICS[name](ranked(queries, grades, scores)))


@given(judged(), st.sampled_from(sorted(METRICS)))
@settings(max_examples=60, deadline=None)
def test_values_are_shares_and_sorting_by_grade_is_best(pairs, name) -> None:
    queries, grades, scores = pairs
    found, best = METRICS[name](ranked(queries, grades, scores)), METRICS[name](ranked(queries, grades, grades))
    counted = found.counted
    assert ((found.values[counted] >= 0) & (found.values[counted] <= best.values[counted] + 1e-12)).all()
    assert (best.values[counted] <= 1).all()
    if name.endswith(("ndcg@3", "ndcg@20", "pair_accuracy")):
        assert best.values[counted] == pytest.approx(1.0, abs=1e-12)


@given(judged())
@settings(max_examples=40, deadline=None)
def test_pair_accuracy_of_the_reverse_order_is_the_complement(pairs) -> None:
    queries, grades, scores = pairs
    forward, backward = (pair_accuracy(ranked(queries, grades, s)) for s in (scores, -scores))
    assert forward.values[forward.counted] + backward.values[forward.counted] == pytest.approx(1.0)


def test_one_query_is_measured_the_same_among_others() -> None:
    queries, grades, scores = random_pairs(9, n_scores=6)
    for metric in METRICS.values():
        together = metric(ranked(queries, grades, scores))
        for query in range(40):
            alone = metric(ranked(queries[queries == query], grades[queries == query], scores[queries == query]))
            np.testing.assert_array_equal(together.values[query], alone.values[0])


def test_no_pair_gives_no_mean() -> None:
    ranking = ranked([], [], [])
    assert all(metric(ranking).mean is None for metric in METRICS.values())


@pytest.mark.parametrize(
    ("queries", "grades", "message"),
    [
        ([1, 2], [0], r"one query and one grade a pair, got shapes \(2,\) and \(1,\)"),
        ([1, 2], [0, 5], "row 2: grade must be 0-4, got 5"),
        ([1, 2], [-1, 0], "row 1: grade must be 0-4, got -1"),
        ([1, 2], [0, 1.5], "row 2: grade must be 0-4, got 1.5"),
        ([1, 2], [0, np.nan], "row 2: grade must be 0-4, got nan"),
    ],
)
def test_wrong_judgments_are_refused(queries, grades, message) -> None:
    with pytest.raises(DataError, match=message):
        Judgments.of(queries, grades, 5)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], r"system bm25: expected scores of shape \(3,\), got \(1,\)"),
        ([1.0, np.nan, np.inf], "system bm25: scores must be finite, found 1 NaN and 1 infinite"),
    ],
)
def test_wrong_scores_are_refused(scores, message) -> None:
    with pytest.raises(DataError, match=message):
        rank(Judgments.of([1, 1, 1], [0, 1, 2], 5), scores, "bm25")


def test_a_cutoff_below_1_is_refused() -> None:
    with pytest.raises(DataError, match="cutoff must be at least 1, got 0"):
        ndcg(ranked([1], [1], [1.0]), 0)
