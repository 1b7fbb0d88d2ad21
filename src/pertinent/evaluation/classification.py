"""How well grades and their probabilities fit the judgments, pooled over pairs. NumPy only.

Each metric is a formula over sums of per-pair terms: ``*_terms`` gives the terms, ``*_of`` the metric of their sums,
which ``intervals`` also applies to the sums of every resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertinent.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_BINS = 15  # of ECE; DESIGN.md, "Metrics, exactly"


def at_least(probs: ArrayLike) -> Floats:
    """P(grade >= k) for k = 1..n-1, from grade probabilities (N, n): (N, n-1) float64, non-increasing along a row."""
    wide = np.asarray(probs, dtype=np.float64)
    return np.asarray(np.cumsum(wide[:, :0:-1], axis=1)[:, ::-1], dtype=np.float64)


def expected_gain(probs: ArrayLike) -> NDArray[np.float64]:
    """What to rank by: (N,), sum_k p_k (2^k - 1) of probabilities (N, n), k the stored grade. NaN stays NaN.

    Source: the gain of nDCG, Burges et al. 2005.
    """
    wide = np.asarray(probs, dtype=np.float64)
    gains: NDArray[np.float64] = wide @ (np.exp2(np.arange(wide.shape[1])) - 1.0)
    return gains


def most_likely(probs: ArrayLike) -> Ints:
    """(N,) int64: the grade of highest probability, the lower one of equals."""
    grades: Ints = np.argmax(np.asarray(probs), axis=1).astype(np.int64)
    return grades


def auroc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Area under the ROC curve: the chance that a positive outscores a negative, equal scores counting half.

    positive: (N,) bool. scores: (N,) finite. weights: (N,) >= 0, default 1.
    Returns None where one of the two classes has no weight. Oracle: scikit-learn roc_auc_score (tests/).
    """
    labels, found = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    mass = np.ones(found.size) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    mass, labels, found = mass[order], labels[order], found[order]
    starts = np.flatnonzero(np.concatenate(([True], found[1:] != found[:-1]))) if found.size else np.array([], int)
    area = float(weighted_auroc(mass[None, :], labels, starts)[0])
    return None if np.isnan(area) else area


def weighted_auroc(weights: Floats, positive: NDArray[np.bool_], tie_starts: Ints) -> Floats:
    """AUROC of pairs already sorted by score, under many weightings at once.

    weights: (B, N) float64. positive: (N,) bool. tie_starts: (G,) int64, where each group of equal scores begins.
    Returns (B,) float64, NaN where a class has no weight.
    """
    if positive.size == 0:
        return np.full(weights.shape[0], np.nan)
    hits, misses = auroc_parts(weights, positive, tie_starts)
    below = np.cumsum(misses, axis=1)
    total = hits.sum(axis=1) * below[:, -1]
    below -= 0.5 * misses
    area = np.einsum("bg,bg->b", hits, below)
    return _divide(area, total, total > 0)


def auroc_parts(weights: Floats, positive: NDArray[np.bool_], tie_starts: Ints) -> tuple[Floats, Floats]:
    """(B, G) float64 each: the weight of the positives and of the negatives in each group of equal scores."""
    hits = weights * positive
    misses = weights - hits
    if tie_starts.size < positive.size:
        hits = np.add.reduceat(hits, tie_starts, axis=1)
        misses = np.add.reduceat(misses, tie_starts, axis=1)
    return hits, misses


def mean_auroc(grades: ArrayLike, probs: ArrayLike) -> float:
    """Mean of AUROC n+ over the thresholds that have pairs on both sides, each by P(grade >= k).

    grades: (N,) stored. probs: (N, n). The one number by which a model is chosen on dev.
    Raises DataError if the pairs all have one grade.
    """
    judged, shares = np.asarray(grades), at_least(probs)
    found = [auroc(judged >= k, shares[:, k - 1]) for k in range(1, shares.shape[1] + 1)]
    known = [value for value in found if value is not None]
    if not known:
        raise DataError("AUROC: expected pairs of at least two grades, found one grade only")
    return float(np.mean(known))


def ratio_of(sums: Floats) -> Floats:
    """First column over the second, NaN where that is not above 0: a weighted mean. sums: (B, 2)."""
    return _divide(sums[:, 0], sums[:, 1], sums[:, 1] > 0)


def accuracy_terms(grades: Ints, predicted: Ints, tolerance: int = 0) -> Floats:
    """(N, 2): 1 where the predicted grade is within ``tolerance`` of the judged one, and 1."""
    near = np.abs(grades - predicted) <= tolerance
    return np.stack([near, np.ones(near.shape)], axis=1).astype(np.float64)


def accuracy(grades: ArrayLike, predicted: ArrayLike) -> float | None:
    """Share of pairs whose predicted grade is the judged one; None for no pair."""
    return _single(ratio_of(_total(accuracy_terms(*_grades(grades, predicted)))))


def within_1(grades: ArrayLike, predicted: ArrayLike) -> float | None:
    """Share of pairs whose predicted grade is at most one grade off; None for no pair."""
    return _single(ratio_of(_total(accuracy_terms(*_grades(grades, predicted), tolerance=1))))


def f1_terms(grades: Ints, predicted: Ints, grade: int) -> Floats:
    """(N, 2): pairs judged and predicted to be ``grade`` counted twice, and judged so plus predicted so."""
    judged, given = grades == grade, predicted == grade
    return np.stack([2.0 * (judged & given), judged.astype(np.float64) + given], axis=1)


def f1_scores(grades: ArrayLike, predicted: ArrayLike, n_grades: int) -> list[float | None]:
    """F1 of each stored grade, lowest first; None for a grade that is neither judged nor predicted.

    Oracle: scikit-learn f1_score(average=None) (tests/).
    """
    judged, given = _grades(grades, predicted)
    return [_single(ratio_of(_total(f1_terms(judged, given, grade)))) for grade in range(n_grades)]


def kappa_terms(grades: Ints, predicted: Ints) -> Floats:
    """(N, 5): squared difference, judged grade, predicted grade, sum of their squares, and 1."""
    judged, given = grades.astype(np.float64), predicted.astype(np.float64)
    columns = [(judged - given) ** 2, judged, given, judged**2 + given**2, np.ones(judged.shape)]
    return np.stack(columns, axis=1)


def kappa_of(sums: Floats) -> Floats:
    """Quadratic-weighted kappa of summed ``kappa_terms`` (B, 5); NaN where all grades, judged and given, are one.

    1 - observed / expected squared difference; the expected one needs only the means and the mean squares.
    """
    n = np.where(sums[:, 4] > 0, sums[:, 4], np.nan)
    observed = sums[:, 0] / n
    expected = sums[:, 3] / n - 2 * (sums[:, 1] / n) * (sums[:, 2] / n)
    # One shared grade leaves only rounding of the squares, which must not become a kappa.
    defined = expected > 1e-12 * (1 + sums[:, 3] / n)
    return 1 - _divide(observed, expected, defined)


def quadratic_kappa(grades: ArrayLike, predicted: ArrayLike) -> float | None:
    """Cohen's kappa with quadratic weights: 1 is perfect, 0 is chance.

    Returns None where all judged and all predicted grades are the same one.
    Source: Cohen 1968, doi:10.1037/h0026256. Oracle: scikit-learn cohen_kappa_score(weights="quadratic") (tests/).
    """
    return _single(kappa_of(_total(kappa_terms(*_grades(grades, predicted)))))


def equal_mass_bins(confidence: Floats, n_bins: int = N_BINS) -> Ints:
    """(N,) int64: the bin, 0..n_bins-1, of each confidence, such that bins hold equally many pairs.

    The pair of rank r (0-based, by confidence) of N goes to bin floor(n_bins * (r + 1/2) / N), so bin sizes differ by
    at most one. Equal confidences go together, by their mean rank: bins then differ in size and some may be empty,
    but the result never depends on the order of rows.
    """
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts + 1) / 2
    return np.floor(n_bins * (mean_rank[inverse] + 0.5) / max(confidence.size, 1)).astype(np.int64)


def ece_of(sums: Floats) -> Floats:
    """ECE of summed terms (B, n_bins + 1): the gap (confidence - correct) of each bin, and the number of pairs."""
    n = np.where(sums[:, -1] > 0, sums[:, -1], np.nan)
    return np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / n, dtype=np.float64)


def expected_calibration_error(correct: ArrayLike, confidence: ArrayLike, n_bins: int = N_BINS) -> float | None:
    """Mean gap between confidence and accuracy of the top label over equal-mass bins, each weighed by its pairs.

    correct: (N,) bool, whether the predicted grade is the judged one. confidence: (N,) its probability.
    See ``equal_mass_bins`` for ties and remainders. None for no pair. Source: Guo et al. 2017, arXiv 1706.04599.
    """
    gap = np.asarray(confidence, dtype=np.float64) - np.asarray(correct, dtype=np.float64)
    bins = equal_mass_bins(np.asarray(confidence, dtype=np.float64), n_bins)
    sums = np.append(np.bincount(bins, weights=gap, minlength=n_bins), gap.size)
    return _single(ece_of(sums[None, :]))


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of about the same confidence: its mean, their accuracy, and how many they are."""

    confidence: float
    accuracy: float
    n_pairs: int


def reliability_bins(correct: ArrayLike, confidence: ArrayLike, n_bins: int = N_BINS) -> list[ReliabilityBin]:
    """The non-empty bins of ``expected_calibration_error``, from low to high confidence."""
    hits, found = np.asarray(correct, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    bins = equal_mass_bins(found, n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    filled = np.flatnonzero(counts)
    means = np.bincount(bins, weights=found, minlength=n_bins)[filled] / counts[filled]
    shares = np.bincount(bins, weights=hits, minlength=n_bins)[filled] / counts[filled]
    return [
        ReliabilityBin(float(mean), float(share), int(count))
        for mean, share, count in zip(means, shares, counts[filled], strict=True)
    ]


def confusion_matrix(grades: ArrayLike, predicted: ArrayLike, n_grades: int) -> Ints:
    """(n, n) int64: pairs by judged grade (row) and predicted grade (column)."""
    judged, given = _grades(grades, predicted)
    return np.bincount(judged * n_grades + given, minlength=n_grades**2).reshape(n_grades, n_grades)


def log_loss_terms(grades: Ints, probs: Floats) -> Floats:
    """(N, 2): negative natural logarithm of the judged grade's probability, in nats, and 1.

    A probability below 2.2e-16 counts as that, as in scikit-learn's log_loss.
    """
    chosen = np.maximum(probs[np.arange(grades.size), grades], np.finfo(np.float64).eps)
    return np.stack([-np.log(chosen), np.ones(grades.size)], axis=1)


def log_loss(grades: ArrayLike, probs: ArrayLike) -> float | None:
    """Mean of ``log_loss_terms``; None for no pair. grades: (N,), stored. probs: (N, n)."""
    judged, wide = np.asarray(grades, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    return _single(ratio_of(_total(log_loss_terms(judged, wide))))


def brier_terms(grades: Ints, probs: Floats) -> Floats:
    """(N, 2): squared difference of the probabilities from those of certainty, summed over grades, and 1."""
    chosen = probs[np.arange(grades.size), grades]
    return np.stack([np.square(probs).sum(axis=1) - 2 * chosen + 1, np.ones(grades.size)], axis=1)


def brier(grades: ArrayLike, probs: ArrayLike) -> float | None:
    """Mean of ``brier_terms``, in 0-2; None for no pair. grades: (N,), stored. probs: (N, n).

    Source: Brier 1950. Oracle: scikit-learn brier_score_loss(scale_by_half=False) (tests/).
    """
    judged, wide = np.asarray(grades, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    return _single(ratio_of(_total(brier_terms(judged, wide))))


def _divide(numerator: Floats, denominator: Floats, defined: NDArray[np.bool_]) -> Floats:
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=defined)
    return quotient


def _grades(grades: ArrayLike, predicted: ArrayLike) -> tuple[Ints, Ints]:
    judged, given = np.asarray(grades, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if judged.ndim != 1 or judged.shape != given.shape:
        raise DataError(f"need one judged and one predicted grade a pair, got shapes {judged.shape} and {given.shape}")
    return judged, given


def _total(terms: Floats) -> Floats:
    return np.asarray(terms.sum(axis=0, keepdims=True), dtype=np.float64)


def _single(value: Floats) -> float | None:
    return None if np.isnan(value[0]) else float(value[0])
