from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from pertinent.errors import DataError, ModelError
from pertinent.evaluation.calibration import TemperatureScaling
from pertinent.teacher.calibration import Calibration, n_logits
from pertinent.teacher.config import HeadKind

KINDS: tuple[HeadKind, ...] = ("softmax", "coral", "corn")
Floats = NDArray[np.float64]


def drawn_grades(probs: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    return (probs.cumsum(axis=1) < rng.random((len(probs), 1))).sum(axis=1)


def simulated(kind: HeadKind, n_pairs: int, n_grades: int = 4, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Logits of a head that is right about its pairs, and grades drawn from its probabilities."""
    rng = np.random.default_rng(seed)
    if kind == "coral":
        logits = rng.normal(size=(n_pairs, 1)) * 2 - np.linspace(-1.5, 1.5, n_grades - 1)
    else:
        logits = rng.normal(size=(n_pairs, n_logits(kind, n_grades))) * 2
    return logits, drawn_grades(Calibration.none(kind, n_grades).probabilities(logits), rng)


def log_loss(calibration: Calibration, logits: Floats, grades: NDArray[np.int64]) -> float:
    return float(-np.log(calibration.probabilities(logits)[np.arange(len(grades)), grades]).mean())


def test_probabilities_are_those_worked_by_hand() -> None:
    log3 = np.log(3)
    softmax = Calibration("softmax", 2.0, (0.0, 0.0))
    assert softmax.probabilities([[2 * log3, 0.0]])[0] == pytest.approx([3 / 4, 1 / 4])
    # coral: P(>= 1) = 3/4, P(>= 2) = 1/4. corn: P(>= 1) = 3/4, P(>= 2 | >= 1) = 1/4.
    assert Calibration.none("coral", 3).probabilities([[log3, -log3]])[0] == pytest.approx([1 / 4, 1 / 2, 1 / 4])
    assert Calibration.none("corn", 3).probabilities([[log3, -log3]])[0] == pytest.approx([1 / 4, 9 / 16, 3 / 16])
    # Shifts come after the temperature: logits 2 log 3 at temperature 2 plus -log 3 is even odds.
    assert Calibration("softmax", 2.0, (-log3, 0.0)).probabilities([[2 * log3, 0.0]])[0] == pytest.approx([0.5, 0.5])
    shifted = Calibration("corn", 2.0, (-log3, -log3))
    assert shifted.probabilities([[2 * log3, 2 * log3]])[0] == pytest.approx([1 / 2, 1 / 4, 1 / 4])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["softmax", "corn"]), st.integers(2, 6), st.integers(0, 2**31), st.floats(0.05, 20))
def test_log_probabilities_are_the_logarithms_of_probabilities(
    kind: HeadKind, n_grades: int, seed: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    n_columns = n_logits(kind, n_grades)
    logits = rng.normal(size=(9, n_columns)) * 3
    calibration = Calibration(kind, temperature, tuple(rng.normal(size=n_columns)))
    probs = calibration.probabilities(logits)
    assert probs.min() >= 0
    assert probs.sum(axis=1) == pytest.approx(np.ones(9))
    assert np.exp(calibration.log_probabilities(logits)) == pytest.approx(probs)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_extreme_logits_are_finite(kind: HeadKind) -> None:
    logits = np.array([[900.0, 800.0, 700.0], [-700.0, -800.0, -900.0]])
    calibration = Calibration.none(kind, 3 if kind == "softmax" else 4)
    probs = calibration.probabilities(logits)
    assert np.isfinite(probs).all()
    assert probs.sum(axis=1) == pytest.approx([1, 1])
    assert np.isfinite(calibration.log_probabilities(logits)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distortion", [0.4, 3.0])
def test_the_temperature_undoes_a_known_distortion(kind: HeadKind, distortion: float) -> None:
    logits, grades = simulated(kind, 20_000)
    found = Calibration.fit(kind, logits * distortion, grades, 4)
    assert found.temperature == pytest.approx(distortion, rel=0.05)
    assert found.shifts == pytest.approx([0.0] * n_logits(kind, 4), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shifts_undo_logits_that_were_moved(kind: HeadKind) -> None:
    """As training on weighted or interpolated targets moves them. The prior gives softmax the shifts of sum 0."""
    logits, grades = simulated(kind, 20_000)
    moved = np.array([0.5, 0.2, 0.0, -0.7] if kind == "softmax" else [0.5, 0.0, -0.7])
    found = Calibration.fit(kind, logits * 2.0 - 2.0 * moved, grades, 4)
    assert found.temperature == pytest.approx(2.0, rel=0.05)
    assert found.shifts == pytest.approx(moved, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_lowers_the_log_loss_on_other_pairs_too(kind: HeadKind) -> None:
    logits, grades = simulated(kind, 8_000)
    distorted = logits * 2.5 + np.linspace(0.5, 1.0, n_logits(kind, 4))
    found = Calibration.fit(kind, distorted[:4_000], grades[:4_000], 4)
    before = log_loss(Calibration.none(kind, 4), distorted[4_000:], grades[4_000:])
    after = log_loss(found, distorted[4_000:], grades[4_000:])
    assert after < before - 0.1
    assert after == pytest.approx(log_loss(Calibration.none(kind, 4), logits[4_000:], grades[4_000:]), abs=0.01)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 60))
def test_no_fit_makes_a_probability_negative(seed: int, n_grades: int, n_pairs: int) -> None:
    """Of coral, where a shift could lift a threshold above the one before: the dev pairs are few and their grades noise."""
    rng = np.random.default_rng(seed)
    thresholds = np.sort(rng.normal(size=n_grades - 1))
    dev = rng.normal(size=(n_pairs, 1)) * 3 - thresholds
    found = Calibration.fit("coral", dev, rng.integers(n_grades, size=n_pairs), n_grades)
    logits = rng.normal(size=(200, 1)) * 6 - thresholds
    at_least = expit(logits / found.temperature + found.shifts)
    assert np.diff(at_least, axis=1).max(initial=-1.0) <= 1e-12  # P(grade >= k) never rises with k
    assert found.probabilities(logits).sum(axis=1) == pytest.approx(np.ones(200))


def test_a_softmax_temperature_is_that_of_the_evaluation_where_no_grade_is_moved() -> None:
    logits, grades = simulated("softmax", 30_000)
    expected = TemperatureScaling.fit(logits * 1.7, grades)
    found = Calibration.fit("softmax", logits * 1.7, grades, 4)
    assert found.temperature == pytest.approx(expected.temperature, rel=0.01)
    assert found.probabilities(logits) == pytest.approx(expected.probabilities(logits), abs=0.02)
    # The shifts can only fit better.
    temperature_alone = -np.log(expected.probabilities(logits * 1.7)[np.arange(30_000), grades]).mean()
    assert log_loss(found, logits * 1.7, grades) <= temperature_alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_grade_that_dev_does_not_have_keeps_a_finite_shift(kind: HeadKind) -> None:
    logits, grades = simulated(kind, 500)
    found = Calibration.fit(kind, logits, np.minimum(grades, 2), 4)
    assert np.abs(found.shifts).max() < 9.9  # the bound is 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_calibration_comes_back_the_same(kind: HeadKind) -> None:
    logits, grades = simulated(kind, 200)
    found = Calibration.fit(kind, logits, grades, 4)
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict())), 4) == found


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"kind": "softmax", "temperature": 0.0, "shifts": [0.0] * 3},
            "expected a temperature above 0 and 3 shifts, found 0",
        ),
        ({"kind": "softmax", "temperature": 1.0, "shifts": [0.0]}, "3 shifts, found 1 and 1"),
        ({"kind": "coral", "temperature": 1.0, "shifts": [0.0]}, "2 shifts, found 1 and 1"),
        ({"kind": "coral", "temperature": float("nan"), "shifts": [0.0, 0.0]}, "temperature above 0"),
        ({"kind": "coral", "temperature": 1.0}, "expected kind, temperature and shifts, found KeyError"),
        (
            {"kind": "coral", "temperature": "hot", "shifts": []},
            "expected kind, temperature and shifts, found ValueError",
        ),
    ],
)
def test_a_damaged_calibration_is_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Calibration.from_dict(document, 3)


@pytest.mark.parametrize(
    ("kind", "logits", "grades"),
    [
        ("softmax", np.zeros((0, 3)), []),
        ("softmax", np.zeros((2, 2)), [0, 1]),
        ("corn", np.zeros((2, 3)), [0, 1]),
        ("coral", np.zeros((2, 2)), [0]),
        ("softmax", [[0.0, np.nan, 0.0]], [0]),
    ],
)
def test_logits_of_another_shape_or_not_finite_are_a_data_error(
    kind: HeadKind, logits: Floats, grades: list[int]
) -> None:
    with pytest.raises(DataError, match="calibration: need finite logits"):
        Calibration.fit(kind, logits, grades, 3)


@pytest.mark.parametrize("grades", [[0, 3], [-1, 2]])
def test_a_grade_off_the_scale_is_a_data_error(grades: list[int]) -> None:
    with pytest.raises(DataError, match=f"calibration: grade must be 0-2, got {min(grades)} to {max(grades)}"):
        Calibration.fit("softmax", np.zeros((2, 3)), grades, 3)
