"""The monotone map and temperature scaling, both fitted on dev."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from pertinent.errors import DataError
from pertinent.evaluation.calibration import MonotoneMap, TemperatureScaling
from pertinent.evaluation.classification import at_least, log_loss


def test_the_map_matches_the_hand_computation() -> None:
    # 1[grade >= 1] by score is 0, 1, 0, 1: isotonic 0, .5, .5, 1. Halfway from score 3 to 4 it is .75.
    fitted = MonotoneMap.fit([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1], 2)
    assert fitted.probabilities([0.0, 1.0, 2.5, 3.5, 9.0])[:, 1] == pytest.approx([0, 0, 0.5, 0.75, 1])


def test_the_map_matches_scikit_learn_at_every_threshold() -> None:
    generator = np.random.default_rng(2)
    grades = generator.integers(0, 5, 400)
    scores = np.round(grades + generator.normal(size=400) * 2, 1)  # rounded: many ties
    asked = np.linspace(-8, 12, 101)
    ours = at_least(MonotoneMap.fit(scores, grades, 5).probabilities(asked))
    for k in range(1, 5):
        theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, grades >= k).predict(asked)
        assert ours[:, k - 1] == pytest.approx(theirs, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3)), min_size=1, max_size=40),
    st.lists(st.floats(-9, 9), min_size=1, max_size=9),
)
@settings(max_examples=80, deadline=None)
def test_probabilities_sum_to_1_and_rise_with_the_score(rows, asked) -> None:
    scores, grades = (np.array(column) for column in zip(*rows, strict=True))
    probs = MonotoneMap.fit(scores, grades, 4).probabilities(np.sort(asked))
    assert (probs >= 0).all()
    assert probs.sum(axis=1) == pytest.approx(1.0)
    assert (np.diff(at_least(probs), axis=0) >= -1e-12).all()


def test_one_distinct_score_gives_the_shares_of_the_grades_everywhere() -> None:
    fitted = MonotoneMap.fit([5.0] * 4, [0, 2, 2, 1], 4)
    assert fitted.probabilities([-1.0, 5.0, 99.0]) == pytest.approx(np.tile([0.25, 0.25, 0.5, 0], (3, 1)))


def test_flat_stretches_are_kept_as_two_knots() -> None:
    fitted = MonotoneMap.fit(np.arange(100.0), np.arange(100) >= 50, 2)
    assert fitted.knots == (0.0, 49.0, 50.0, 99.0)


def test_the_map_survives_json() -> None:
    fitted = MonotoneMap.fit([0.1, 0.2, 0.7, 0.9], [0, 2, 1, 2], 3)
    assert MonotoneMap.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


@pytest.mark.parametrize(
    "document",
    [{}, {"knots": [1.0], "at_least": []}, {"knots": ["x"], "at_least": [[0.5]]}, {"knots": [], "at_least": []}],
)
def test_a_damaged_map_is_refused(document) -> None:
    with pytest.raises(DataError, match="monotone map: expected"):
        MonotoneMap.from_dict(document)


@pytest.mark.parametrize(("scores", "grades"), [([], []), ([1.0], [1, 2]), ([np.nan], [1])])
def test_the_map_needs_finite_scores_with_grades(scores, grades) -> None:
    with pytest.raises(DataError, match="monotone map: need finite scores"):
        MonotoneMap.fit(scores, grades, 5)


def drawn(temperature: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and grades drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(n, 5)) * 3
    noise = generator.gumbel(size=(n, 5))
    return logits, (logits / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_fit_finds_the_temperature_that_drew_the_grades(temperature) -> None:
    logits, grades = drawn(temperature)
    fitted = TemperatureScaling.fit(logits, grades)
    assert fitted.temperature == pytest.approx(temperature, rel=0.08)
    best = log_loss(grades, fitted.probabilities(logits))
    for factor in (0.98, 1.02):
        assert log_loss(grades, TemperatureScaling(fitted.temperature * factor).probabilities(logits)) > best


def test_temperature_keeps_the_order_and_sums_to_1_even_for_large_logits() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0]])
    probs = TemperatureScaling(2.0).probabilities(logits)
    assert probs[0] == pytest.approx([1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(0.5)), 0.0])


def test_temperature_survives_json() -> None:
    fitted = TemperatureScaling(1.3)
    assert TemperatureScaling.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


@pytest.mark.parametrize("value", [None, "1", 0, -1.0, float("inf"), True])
def test_a_wrong_temperature_is_refused(value) -> None:
    with pytest.raises(DataError, match="temperature: expected a finite number above 0"):
        TemperatureScaling.from_dict({"temperature": value})


@pytest.mark.parametrize(
    ("logits", "grades", "message"),
    [
        ([[1.0, 2.0]], [0, 1], "need finite logits"),
        ([[1.0, np.nan]], [0], "need finite logits"),
        (np.empty((0, 2)), [], "need finite logits"),
        ([[1.0, 2.0]], [2], "grade must be 0-1, got 2 to 2"),
    ],
)
def test_temperature_needs_finite_logits_with_grades(logits, grades, message) -> None:
    with pytest.raises(DataError, match=message):
        TemperatureScaling.fit(logits, grades)
