"""Losses and heads of the teacher compared on Home Depot: 12,000 human rows, one epoch, three seeds.

    python benchmarks/teacher_losses.py --rows 'coral/*'

A row is a loss and a seed. The loss is chosen on dev; test is what the targets read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from common import (
    Target,
    measure_rows,
    run_main,
)
from homedepot import HomeDepot

LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"target": "grade"},
    "smoothed": {"target": "grade", "label_smoothing": 0.1},
    "interpolated": {"target": "interpolated"},
    "coral": {"target": "grade", "head": "coral"},
    "corn": {"target": "grade", "head": "corn"},
    "coral_interpolated": {"target": "interpolated", "head": "coral"},
}
SEEDS = (0, 1, 2)
N_ROWS = 12_000
METRICS = ("auroc_2+", "auroc_3+", "auroc_4+", "auroc_5+")
COLUMNS = ("peak_gib", "accuracy", *METRICS, "pair_accuracy", "ndcg@20", "qwk", "ece", "dev_auroc")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows("teacher_losses", __doc__, rows_of, targets, columns=COLUMNS, seeds=SEEDS)


def rows_of(quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    return {f"{loss}/{seed}": partial(measure, loss, seed, quick=quick) for loss in LOSSES for seed in SEEDS}


def measure(loss: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train with a loss, and measure the teacher."""
    homedepot = HomeDepot.prepared(max_test_pairs=500 if quick else None)
    changes = {**LOSSES[loss], "epochs": 1, "max_train_rows": 200 if quick else N_ROWS}
    folder = homedepot.train(f"{'quick-' if quick else ''}losses-{loss}", changes, seed)
    figures = homedepot.teacher_figures(folder)
    return {"loss": loss, "seed": seed, **figures, "dev_auroc": mean_dev_auroc(figures)}


def mean_dev_auroc(figures: Mapping[str, Any]) -> float:
    """What a loss is chosen by: the mean AUROC over all thresholds on dev."""
    return float(np.mean([value for key, value in figures["dev"].items() if key.startswith("auroc_")]))


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The loss chosen on dev is at least cross-entropy's equal on test, at every threshold, by the mean over seeds.

    Chosen among those that all seeds have been measured of.
    """
    means = {loss: _mean(rows, loss, "dev_auroc") for loss in LOSSES}
    complete = [loss for loss in LOSSES if means[loss] is not None]
    chosen = max(complete, key=lambda loss: means[loss] or 0.0) if "cross_entropy" in complete else None
    found = []
    for metric in METRICS:
        gain = None
        if chosen is not None:
            ours, plain = _mean(rows, chosen, metric), _mean(rows, "cross_entropy", metric)
            assert ours is not None
            assert plain is not None
            gain = round(ours - plain, 4)
        found.append(Target(f"{chosen or 'chosen loss'} less cross-entropy, {metric}", 0.0, ">=", gain))
    return found


def _mean(rows: Mapping[str, Mapping[str, Any]], loss: str, metric: str) -> float | None:
    """Over the three seeds; None until all are there."""
    values = [rows[name][metric] for seed in SEEDS if (name := f"{loss}/{seed}") in rows]
    return float(np.mean(values)) if len(values) == len(SEEDS) else None


if __name__ == "__main__":
    run_main(main)
