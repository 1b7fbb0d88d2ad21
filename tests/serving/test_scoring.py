from __future__ import annotations

import numpy as np
import pytest

from pertinent.bundle.scorer import grades_and_relevance
from pertinent.serving.scoring import Scored, best_first, blended
from pertinent.serving.settings import Blend

# Three grades, gains 0, 1, 3: relevance (1 * .2 + 3 * .5) / 3, 0, 1 and, for the unknown item, none.
PROBS = np.array([[0.3, 0.2, 0.5], [1, 0, 0], [0, 0, 1], [np.nan] * 3], dtype=np.float32)
FOUND = Scored(PROBS, np.zeros((4, 1), dtype=np.float32), *grades_and_relevance(PROBS))
ENGAGEMENT = np.array([4.0, 9.0, -1.0, 100.0])


def test_relevance_and_expected_grade_by_hand() -> None:
    assert FOUND.relevance[:3] == pytest.approx([1.7 / 3, 0.0, 1.0])
    assert FOUND.grades[:3] == pytest.approx([1.2, 0.0, 2.0])
    assert FOUND.known.tolist() == [True, True, True, False]


def test_a_product_by_hand_with_a_negative_engagement_as_nothing() -> None:
    score = blended(FOUND, ENGAGEMENT, Blend(kind="product", relevance_weight=2, engagement_weight=0.5))
    assert score[:3] == pytest.approx([(1.7 / 3) ** 2 * 2.0, 0.0, 0.0])
    assert np.isnan(score[3])


@pytest.mark.parametrize("kind", ["weighted", "product", "floor"])
def test_the_unknown_come_last_and_huge_scores_stay_finite(kind: str) -> None:
    huge = np.array([1e308, -1e308, 1e308, 1e308])
    score = blended(FOUND, huge, Blend(kind=kind, engagement_weight=1000, grade=3))
    assert np.isfinite(score[:3]).all()
    assert best_first(score, huge, FOUND.relevance)[-1] == 3


def test_ties_go_to_engagement_then_relevance_then_the_order_given() -> None:
    score, relevance = np.zeros(4), np.array([0.1, 0.2, 0.2, 0.9])
    assert best_first(score, np.array([1.0, 1.0, 1.0, 0.0]), relevance).tolist() == [1, 2, 0, 3]
