"""Grade probabilities for systems that give only a score, and temperature scaling of logits; both fitted on dev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression, minimize_scalar

from pertinent.errors import DataError

Floats = NDArray[np.float64]

TEMPERATURE_BOUNDS = (0.05, 20.0)  # a fit that ends at a bound says that dev is too small or separable


@dataclass(frozen=True)
class MonotoneMap:
    """A map from a score to grade probabilities: P(grade >= k) never falls as the score rises.

    knots: (K,) scores, rising. at_least: (K, n-1) P(grade >= k) at each knot for k = 1..n-1, non-increasing in k.
    Between knots it is linear; beyond the ends it is constant.
    """

    knots: tuple[float, ...]
    at_least: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, scores: ArrayLike, grades: ArrayLike, n_grades: int) -> MonotoneMap:
        """For each threshold k, the isotonic regression of 1[grade >= k] on the score.

        scores: (N,) finite. grades: (N,) stored. Equal scores are pooled first. A single distinct score gives the
        shares of the grades everywhere. Raises DataError if N is 0, shapes differ or a score is not finite.
        Source: Zadrozny and Elkan 2002, doi:10.1145/775047.775151.
        """
        found, judged = np.asarray(scores, dtype=np.float64), np.asarray(grades)
        if found.ndim != 1 or found.shape != judged.shape or found.size == 0 or not np.isfinite(found).all():
            raise DataError(f"monotone map: need finite scores and their grades, got {found.shape} and {judged.shape}")
        knots, inverse, counts = np.unique(found, return_inverse=True, return_counts=True)
        curves = np.empty((knots.size, n_grades - 1))
        for k in range(1, n_grades):
            share = np.bincount(inverse, weights=judged >= k) / counts
            curves[:, k - 1] = isotonic_regression(share, weights=counts).x
        # Thresholds come out in order (a larger indicator has a larger fit), but for rounding.
        curves = np.minimum.accumulate(np.clip(curves, 0.0, 1.0), axis=1)
        kept = _corners(curves)
        return cls(tuple(knots[kept].tolist()), tuple(tuple(row) for row in curves[kept].tolist()))

    def probabilities(self, scores: ArrayLike) -> Floats:
        """(N, n) float64, each row summing to 1, for scores (N,)."""
        found, curves = np.asarray(scores, dtype=np.float64), np.asarray(self.at_least)
        between = [np.interp(found, self.knots, curves[:, k]) for k in range(curves.shape[1])]
        bounded = np.stack([np.ones(found.shape), *between, np.zeros(found.shape)], axis=1)
        return np.maximum(-np.diff(bounded, axis=1), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The map as a JSON document."""
        return {"knots": list(self.knots), "at_least": [list(row) for row in self.at_least]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> MonotoneMap:
        """The map of ``to_dict``. Raises DataError if a key is missing or the lengths differ."""
        try:
            knots = tuple(float(knot) for knot in document["knots"])
            rows = tuple(tuple(float(value) for value in row) for row in document["at_least"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"monotone map: expected the lists knots and at_least, found {error!r}") from None
        if not knots or len(knots) != len(rows) or len({len(row) for row in rows}) != 1:
            raise DataError(f"monotone map: expected one row a knot, found {len(knots)} knots and {len(rows)} rows")
        return cls(knots, rows)


def _corners(curves: Floats) -> NDArray[np.bool_]:
    """(K,) bool: the knots that matter, leaving out those inside a stretch where all curves are flat."""
    flat = (curves[1:] == curves[:-1]).all(axis=1)
    kept = np.ones(curves.shape[0], dtype=bool)
    kept[1:-1] = ~(flat[:-1] & flat[1:])
    return kept


@dataclass(frozen=True)
class TemperatureScaling:
    """Probabilities softmax(logits / temperature); above 1 softens, below 1 sharpens; the order of logits stays."""

    temperature: float

    @classmethod
    def fit(cls, logits: ArrayLike, grades: ArrayLike) -> TemperatureScaling:
        """The temperature, between 0.05 and 20, of least log loss.

        logits: (N, n) finite. grades: (N,) stored. Raises DataError if N is 0, shapes differ, a logit is not finite
        or a grade has no logit. Source: Guo et al. 2017, arXiv 1706.04599.
        """
        wide, judged = np.asarray(logits, dtype=np.float64), np.asarray(grades, dtype=np.int64)
        if wide.ndim != 2 or wide.shape[:1] != judged.shape or judged.size == 0 or not np.isfinite(wide).all():
            raise DataError(f"temperature: need finite logits (N, n) and N grades, got {wide.shape} and {judged.shape}")
        if judged.min() < 0 or judged.max() >= wide.shape[1]:
            raise DataError(f"temperature: grade must be 0-{wide.shape[1] - 1}, got {judged.min()} to {judged.max()}")
        rows = np.arange(judged.size)

        def loss(log_temperature: float) -> float:
            return float(-_log_softmax(wide / np.exp(log_temperature))[rows, judged].mean())

        low, high = np.log(TEMPERATURE_BOUNDS)
        best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
        return cls(float(np.exp(best.x)))

    def probabilities(self, logits: ArrayLike) -> Floats:
        """(N, n) float64, each row summing to 1, for logits (N, n)."""
        return np.exp(_log_softmax(np.asarray(logits, dtype=np.float64) / self.temperature))

    def to_dict(self) -> dict[str, float]:
        """The temperature as a JSON document."""
        return {"temperature": self.temperature}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TemperatureScaling:
        """The scaling of ``to_dict``. Raises DataError if the temperature is missing or not above 0."""
        value = document.get("temperature")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise DataError(f"temperature: expected a finite number above 0, found {value!r}")
        return cls(float(value))


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)
