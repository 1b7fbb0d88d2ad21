"""Calibrated grade probabilities from a head's logits; fitted on dev and stored with the model. NumPy and SciPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax, softmax

from pertinent.errors import DataError, ModelError
from pertinent.evaluation.calibration import TEMPERATURE_BOUNDS
from pertinent.teacher.config import HeadKind

Floats = NDArray[np.float64]
_SHIFT_BOUNDS = (-10.0, 10.0)  # logits
_PRIOR = 1e-4  # weight of the squared shifts: keeps the logit of a grade that dev does not have where it was


def n_logits(kind: HeadKind, n_grades: int) -> int:
    """Columns of a head's logits: n for softmax, n - 1 thresholds for the ordinal heads."""
    return n_grades if kind == "softmax" else n_grades - 1


@dataclass(frozen=True)
class Calibration:
    """A temperature, and a shift of each logit: of each grade for softmax, of each threshold for coral and corn.

    softmax: softmax(logits / temperature + shifts). coral, corn: sigmoid(logits / temperature + shifts), combined as
    the head says. The shifts make up for training targets that are not the grades (interpolated, smoothed, weighted);
    those of coral never put two thresholds out of order.
    """

    kind: HeadKind
    temperature: float
    shifts: tuple[float, ...]

    @classmethod
    def none(cls, kind: HeadKind, n_grades: int) -> Calibration:
        """The head's own probabilities."""
        return cls(kind, 1.0, (0.0,) * n_logits(kind, n_grades))

    @classmethod
    def fit(cls, kind: HeadKind, logits: ArrayLike, grades: ArrayLike, n_grades: int) -> Calibration:
        """The calibration of least log loss.

        logits: (N, n or n - 1) finite. grades: (N,) stored. Raises DataError if N is 0, shapes differ, a logit is not
        finite or a grade is off the scale. Source: Guo et al. 2017, arXiv 1706.04599, section 4.2 (one temperature for
        all grades, and the bias of their vector scaling).
        """
        wide, judged = np.asarray(logits, dtype=np.float64), np.asarray(grades, dtype=np.int64)
        _check(kind, wide, judged, n_grades)
        rows = np.arange(judged.size)
        n_shifts = n_logits(kind, n_grades)
        ceilings = _ceilings(kind, wide)

        def at(parameters: Floats) -> Calibration:
            temperature = float(np.exp(parameters[0]))
            return cls(kind, temperature, _ordered(parameters[1:], ceilings / temperature))

        def loss(parameters: Floats) -> float:
            log_probs = at(parameters).log_probabilities(wide)
            return float(-log_probs[rows, judged].mean() + _PRIOR * np.square(parameters[1:]).sum())

        low, high = np.log(TEMPERATURE_BOUNDS)
        bounds = [(low, high), *[_SHIFT_BOUNDS] * n_shifts]
        best = minimize(loss, np.zeros(1 + n_shifts), method="L-BFGS-B", bounds=bounds)
        return at(best.x)

    def log_probabilities(self, logits: ArrayLike) -> Floats:
        """(N, n) float64 natural logarithms of the probabilities; those of coral are no less than -745."""
        wide = self._calibrated(logits)
        if self.kind == "softmax":
            return np.asarray(log_softmax(wide, axis=1))
        if self.kind == "corn":
            reached = np.pad(np.cumsum(log_expit(wide), axis=1), ((0, 0), (1, 0)))
            missed = np.pad(log_expit(-wide), ((0, 0), (0, 1)))
            return np.asarray(reached + missed)
        return np.log(np.maximum(self.probabilities(logits), 5e-324))

    def probabilities(self, logits: ArrayLike) -> Floats:
        """(N, n) float64, each at least 0, each row summing to 1, for logits (N, n or n - 1)."""
        wide = self._calibrated(logits)
        if self.kind == "softmax":
            return np.asarray(softmax(wide, axis=1))
        if self.kind == "corn":
            return np.exp(self.log_probabilities(logits))
        at_least = np.pad(expit(wide), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
        return np.maximum(-np.diff(at_least, axis=1), 0.0)

    def _calibrated(self, logits: ArrayLike) -> Floats:
        return np.asarray(np.asarray(logits, dtype=np.float64) / self.temperature + np.asarray(self.shifts))

    def to_dict(self) -> dict[str, Any]:
        """The calibration as a JSON document."""
        return {"kind": self.kind, "temperature": self.temperature, "shifts": list(self.shifts)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], n_grades: int) -> Calibration:
        """The calibration of ``to_dict``. Raises ModelError if a key is missing or its value cannot be."""
        try:
            found = cls(document["kind"], float(document["temperature"]), tuple(map(float, document["shifts"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"calibration: expected kind, temperature and shifts, found {error!r}") from None
        wanted = n_logits(found.kind, n_grades)
        if not 0 < found.temperature < np.inf or len(found.shifts) != wanted:
            raise ModelError(
                f"calibration: expected a temperature above 0 and {wanted} shifts, found {found.temperature:g} and "
                f"{len(found.shifts)}"
            )
        return found


def _ceilings(kind: HeadKind, logits: Floats) -> Floats:
    """How far each coral threshold lies above the one before: (n - 2,), the same for every pair."""
    if kind != "coral":
        return np.zeros(0)
    return np.asarray(logits[0, :-1] - logits[0, 1:])


def _ordered(shifts: Floats, gaps: Floats) -> tuple[float, ...]:
    """The shifts, each lowered where it would lift its threshold above the one before."""
    if gaps.size == 0:
        return tuple(map(float, shifts))
    kept = [float(shifts[0])]
    for shift, gap in zip(shifts[1:], gaps, strict=True):
        kept.append(min(float(shift), kept[-1] + float(gap)))
    return tuple(kept)


def _check(kind: HeadKind, logits: Floats, grades: NDArray[np.int64], n_grades: int) -> None:
    expected = n_logits(kind, n_grades)
    if logits.ndim != 2 or logits.shape != (grades.size, expected) or not grades.size or not np.isfinite(logits).all():
        raise DataError(
            f"calibration: need finite logits (N, {expected}) and N grades, got {logits.shape} and {grades.shape}"
        )
    if grades.min() < 0 or grades.max() >= n_grades:
        raise DataError(f"calibration: grade must be 0-{n_grades - 1}, got {grades.min()} to {grades.max()}")
