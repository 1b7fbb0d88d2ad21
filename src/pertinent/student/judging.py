"""How a model in training is judged on dev, and which judging was the best: the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.evaluation.calibration import TemperatureScaling
from pertinent.evaluation.classification import log_loss, mean_auroc


def judged(logits: NDArray[np.floating], grades: NDArray[np.int64]) -> dict[str, float]:
    """Log loss and mean AUROC of the dev pairs once calibrated, and the temperature that does it. logits: (N, n)."""
    scaling = TemperatureScaling.fit(logits, grades)
    probs = scaling.probabilities(logits)
    loss = log_loss(grades, probs)
    assert loss is not None
    return {"dev_loss": loss, "dev_auroc": mean_auroc(grades, probs), "temperature": scaling.temperature}


def best_of(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of the best dev AUROC, the first of equals."""
    return max(history, key=lambda row: row["dev_auroc"])
