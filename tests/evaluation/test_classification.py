"""Metrics of grades and probabilities, with scikit-learn as oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from pertinent.errors import DataError
from pertinent.evaluation.classification import (
    accuracy,
    at_least,
    auroc,
    confusion_matrix,
    equal_mass_bins,
    expected_calibration_error,
    expected_gain,
    log_loss,
    mean_auroc,
    most_likely,
    quadratic_kappa,
    reliability_bins,
    within_1,
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(17)


def test_auroc_matches_the_hand_computation() -> None:
    # Positives score 3 and 1, negatives 1 and 0: of 4 pairs 3 are right and one is tied.
    assert auroc([1, 1, 0, 0], [3.0, 1.0, 1.0, 0.0]) == 3.5 / 4


@pytest.mark.parametrize("n_scores", [1, 4, 10_000])
def test_auroc_matches_scikit_learn(generator, n_scores) -> None:
    positive, scores = generator.random(500) < 0.3, generator.integers(0, n_scores, 500).astype(float)
    assert auroc(positive, scores) == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores), abs=1e-12)
    weights = generator.random(500)
    theirs = sklearn_metrics.roc_auc_score(positive, scores, sample_weight=weights)
    assert auroc(positive, scores, weights) == pytest.approx(theirs, abs=1e-12)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30),
)
@settings(max_examples=80, deadline=None)
def test_auroc_of_whole_weights_is_that_of_repeated_pairs(rows) -> None:
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    repeated = auroc(np.repeat(positive, weights), np.repeat(scores, weights))
    assert auroc(positive, scores, weights) == (None if repeated is None else pytest.approx(repeated, abs=1e-12))


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_auroc_of_one_class_is_none(positive) -> None:
    assert auroc(positive, np.arange(len(positive))) is None


def test_accuracy_within_1_and_confusion_match_the_hand_computation() -> None:
    grades, predicted = [0, 1, 2, 3], [0, 2, 0, 3]
    assert accuracy(grades, predicted) == 0.5
    assert within_1(grades, predicted) == 0.75
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert confusion_matrix(grades, predicted, 4).tolist() == expected


def test_kappa_matches_the_hand_computation() -> None:
    # Squared differences 0, 0, 1, 1: mean 1/2. Expected: grades (0,1,0,1) against (0,1,1,2), mean over all 16
    # combinations: from 0 (half): (0+1+1+4)/4 = 1.5; from 1 (half): (1+0+0+1)/4 = 0.5; mean 1. Kappa 1 - 0.5/1.
    assert quadratic_kappa([0, 1, 0, 1], [0, 1, 1, 2]) == pytest.approx(0.5)


def test_kappa_and_confusion_match_scikit_learn(generator) -> None:
    grades = generator.integers(0, 5, 300)
    predicted = np.clip(grades + generator.integers(-2, 3, 300), 0, 4)
    theirs = sklearn_metrics.cohen_kappa_score(grades, predicted, weights="quadratic")
    assert quadratic_kappa(grades, predicted) == pytest.approx(theirs, abs=1e-12)
    assert (confusion_matrix(grades, predicted, 5) == sklearn_metrics.confusion_matrix(grades, predicted)).all()


def test_kappa_of_a_constant_prediction_is_0_and_of_one_shared_grade_is_none() -> None:
    assert quadratic_kappa([0, 1, 4, 2], [3, 3, 3, 3]) == pytest.approx(0.0, abs=1e-12)
    assert quadratic_kappa([3, 3, 3], [3, 3, 3]) is None


def test_log_loss_matches_scikit_learn_and_bounds_a_zero(generator) -> None:
    grades, probs = generator.integers(0, 5, 200), generator.dirichlet(np.ones(5), 200)
    theirs = sklearn_metrics.log_loss(grades, probs, labels=range(5))
    assert log_loss(grades, probs) == pytest.approx(theirs, abs=1e-12)
    assert log_loss([0], [[0.0, 1.0]]) == pytest.approx(-np.log(np.finfo(float).eps))


def test_ece_matches_the_hand_computation() -> None:
    # Two bins of two: confidence 0.5, 0.6 with one right (gap 0.05); 0.8, 1.0 with one right (gap 0.4).
    correct, confidence = [True, False, True, False], [0.5, 0.6, 0.8, 1.0]
    assert expected_calibration_error(correct, confidence, n_bins=2) == pytest.approx(0.225)
    bins = reliability_bins(correct, confidence, n_bins=2)
    assert [(b.confidence, b.accuracy, b.n_pairs) for b in bins] == [
        (pytest.approx(0.55), 0.5, 2),
        (pytest.approx(0.9), 0.5, 2),
    ]


@pytest.mark.parametrize("n", [1, 14, 15, 16, 100, 152])
def test_bins_of_distinct_confidences_differ_in_size_by_at_most_one(generator, n) -> None:
    confidence = generator.permutation(np.linspace(0.2, 0.9, n))
    bins = equal_mass_bins(confidence)
    sizes = np.bincount(bins, minlength=15)
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(bins[confidence.argsort()]) >= 0).all()


@pytest.mark.parametrize(
    ("confidence", "bins"),
    [
        ([0.1, 0.2, 0.3], [0, 1, 1]),  # ranks 0, 1, 2: floor(2 (r + 1/2) / 3)
        ([0.4, 0.4, 0.4, 0.5], [0, 0, 0, 1]),  # mean rank 1 of the tie: floor(2 x 1.5 / 4) = 0
        ([0.3, 0.4, 0.4, 0.4], [0, 1, 1, 1]),
    ],
)
def test_a_remainder_and_a_tie_fall_as_documented(confidence, bins) -> None:
    assert equal_mass_bins(np.array(confidence), n_bins=2).tolist() == bins


def test_equal_confidences_share_a_bin_so_a_constant_one_has_the_plain_gap() -> None:
    correct = np.arange(100) < 40
    assert expected_calibration_error(correct, np.full(100, 0.75)) == pytest.approx(0.35)
    assert [each.n_pairs for each in reliability_bins(correct, np.full(100, 0.75))] == [100]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=60), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_ece_does_not_depend_on_the_order_of_rows(rows, seed) -> None:
    correct, tenths = (np.array(column) for column in zip(*rows, strict=True))
    order = np.random.default_rng(seed).permutation(correct.size)
    one = expected_calibration_error(correct, tenths / 10)
    assert expected_calibration_error(correct[order], tenths[order] / 10) == pytest.approx(one, abs=1e-12)
    assert 0 <= one <= 1


def test_ece_of_calibrated_probabilities_is_near_0_and_of_sure_ones_is_not(generator) -> None:
    probs = generator.dirichlet(np.ones(5), 20_000)
    grades = (probs.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    predicted = most_likely(probs)
    confidence = probs.max(axis=1)
    assert expected_calibration_error(predicted == grades, confidence) < 0.015
    assert expected_calibration_error(predicted == grades, np.sqrt(confidence)) > 0.1


def test_no_pair_gives_none() -> None:
    empty = np.array([], dtype=int)
    assert accuracy(empty, empty) is within_1(empty, empty) is quadratic_kappa(empty, empty) is None
    assert expected_calibration_error(empty, empty) is log_loss(empty, np.empty((0, 5))) is None
    assert reliability_bins(empty, empty) == []


def test_at_least_sums_the_upper_grades_and_the_lower_of_equals_is_most_likely() -> None:
    probs = np.array([[0.1, 0.4, 0.4, 0.1]])
    assert at_least(probs)[0] == pytest.approx([0.9, 0.5, 0.1])
    assert most_likely(probs).tolist() == [1]


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match=r"one judged and one predicted grade a pair, got shapes \(2,\) and \(1,\)"):
        accuracy([0, 1], [0])


@pytest.mark.parametrize("n_grades", [2, 5])
def test_mean_auroc_is_the_mean_over_all_thresholds(generator, n_grades) -> None:
    grades, probs = generator.integers(0, n_grades, 200), generator.dirichlet(np.ones(n_grades), 200)
    probs[np.arange(200), grades] += 0.3
    theirs = [sklearn_metrics.roc_auc_score(grades >= k, probs[:, k:].sum(axis=1)) for k in range(1, n_grades)]
    assert mean_auroc(grades, probs) == pytest.approx(np.mean(theirs), abs=1e-12)


def test_mean_auroc_leaves_out_thresholds_with_one_side_and_needs_one_with_both(generator) -> None:
    probs = generator.dirichlet(np.ones(5), 6)
    grades = np.array([0, 0, 0, 1, 1, 1])
    assert mean_auroc(grades, probs) == auroc(grades >= 1, at_least(probs)[:, 0])
    with pytest.raises(DataError, match="expected pairs of at least two grades, found one grade only"):
        mean_auroc(np.full(6, 2), probs)


def test_gaps_of_bins_do_not_cancel_out() -> None:
    # Two bins: confidence .6 and always right, confidence .9 and never: gaps .4 and .9, mean .65; their sum would be .25.
    correct, confidence = [True, True, False, False], [0.6, 0.6, 0.9, 0.9]
    assert expected_calibration_error(correct, confidence, n_bins=2) == pytest.approx(0.65)


def test_the_expected_gain_is_that_worked_by_hand() -> None:
    found = expected_gain(np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [np.nan, 0.5, 0.5]], dtype=np.float32))
    assert found.tolist()[:2] == [1.0, 3.0]  # gains 0, 1 and 3
    assert np.isnan(found[2])
