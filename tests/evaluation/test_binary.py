"""Metrics of binary relevance: hand-worked values and what ties and short lists do; the oracles are in test_measures."""

import numpy as np
import pytest

from pertinent.evaluation.binary import average_precision, precision, recall, reciprocal_rank
from pertinent.evaluation.metrics import Judgments, rank, rank_retrieved


def ranked(queries, grades, scores, n_grades=5):
    return rank(Judgments.of(queries, grades, n_grades), scores)


def test_the_four_match_the_hand_computation() -> None:
    # By score: not, relevant, not, relevant, and a third relevant at rank 5. AP = (1/2 + 2/4 + 3/5) / 3.
    ranking = ranked(["q"] * 5, [0, 4, 1, 3, 3], [9.0, 8, 7, 6, 5])
    assert average_precision(ranking).mean == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 3)
    assert average_precision(ranking, k=4).mean == pytest.approx((1 / 2 + 2 / 4) / 3)  # over all three, as trec_eval
    assert reciprocal_rank(ranking).mean == 0.5
    assert reciprocal_rank(ranking, k=1).mean == 0
    assert recall(ranking, 4).mean == pytest.approx(2 / 3)
    assert precision(ranking, 4).mean == 0.5
    assert precision(ranking, 4, rel=1).mean == 0.75


def test_a_tie_counts_as_the_mean_over_its_orders() -> None:
    # Ranks 1 and 2 are tied, one of them relevant: RR is 1 or 1/2; AP the same. Ranks 2-4, one relevant: 1/2, 1/3, 1/4.
    assert reciprocal_rank(ranked([0] * 2, [4, 0], [1.0, 1.0])).mean == pytest.approx(0.75, abs=1e-12)
    assert average_precision(ranked([0] * 2, [4, 0], [1.0, 1.0])).mean == pytest.approx(0.75, abs=1e-12)
    ranking = ranked([0] * 4, [0, 4, 0, 0], [2.0, 1, 1, 1])
    assert reciprocal_rank(ranking).mean == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3, abs=1e-12)
    assert reciprocal_rank(ranking, k=3).mean == pytest.approx((1 / 2 + 1 / 3) / 3, abs=1e-12)


@pytest.mark.parametrize("metric", [average_precision, reciprocal_rank, lambda ranking: recall(ranking, 2)])
def test_a_query_without_a_relevant_item_is_left_out_and_counted(metric) -> None:
    found = metric(ranked(["a", "a", "b"], [4, 0, 2], [1.0, 2.0, 1.0]))
    assert found.n_left_out == 1
    assert np.isnan(found.values[1])
    assert found.mean == found.values[0]


def test_a_short_list_is_left_out_of_precision_unless_asked_for() -> None:
    ranking = ranked(["a"] * 2 + ["b"], [4, 4, 4], [3.0, 2, 1])  # a has just enough
    assert precision(ranking, 2).mean == 1.0
    assert precision(ranking, 2, short_lists=True).values.tolist() == [1.0, 0.5]


def test_what_is_not_retrieved_counts_as_missed_and_what_is_not_judged_keeps_its_rank() -> None:
    # Judged: grades 4, 3, 0; retrieved: an unjudged item, then the grade 3. The grade 4 is not retrieved.
    judgments = Judgments.of(["q"] * 3, [4, 3, 0], 5)
    ranking = rank_retrieved(judgments, [0, 0], [-1, 3], [2.0, 1.0])
    assert reciprocal_rank(ranking).mean == 0.5
    assert average_precision(ranking).mean == pytest.approx(0.5 / 2)
    assert recall(ranking, 10).mean == 0.5
    assert precision(ranking, 2).mean == 0.5


def test_long_ties_keep_their_precision() -> None:
    # 2,000 tied items, 1,000 of them relevant: the first is relevant by half, then a quarter, ...: sum of 2^-j / j = ln 2.
    grades = np.tile([0, 4], 1000)
    found = reciprocal_rank(ranked(np.zeros(2000, int), grades, np.zeros(2000))).mean
    assert found == pytest.approx(np.log(2), abs=5e-4)
    assert average_precision(ranked(np.zeros(2000, int), grades, np.zeros(2000))).mean == pytest.approx(0.5, abs=5e-3)
