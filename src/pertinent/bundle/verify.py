"""The parity gate: a bundle's own code must give the training side's features and probabilities, or it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from pertinent.bundle.scorer import open_bundle
from pertinent.errors import ModelError
from pertinent.files import read_parquet

FEATURE_TOLERANCE = 1e-6
PROBABILITY_TOLERANCE = 1e-5


def verify_bundle(folder: Path) -> dict[str, float]:
    """Replay the probe pairs through the bundle.

    Returns the largest differences {"features", "probabilities"}. Raises ModelError, naming the feature and the pair,
    where a feature differs by more than 1e-6 or a probability by more than 1e-5, and where there is nothing to replay.
    """
    scorer = open_bundle(folder)
    probe = read_parquet(folder / "probe.parquet").with_row_index("row")
    if not probe.height:
        raise ModelError(f"{folder / 'probe.parquet'}: expected pairs to replay, found none")
    worst = {"features": 0.0, "probabilities": 0.0}
    for (query,), group in probe.group_by(["query"], maintain_order=True):
        rows = np.array([scorer.row_of.get(item, -1) for item in group["item_id"]], dtype=np.int64)
        if rows.min() < 0:
            missing = group["item_id"][int(rows.argmin())]
            raise ModelError(f"{folder / 'probe.parquet'}: expected items of the bundle, found {missing}")
        inputs = scorer.inputs(str(query), rows)
        stored = np.array(group["features"].to_list(), dtype=np.float32).reshape(rows.size, -1)
        if stored.shape != inputs[2].shape:
            expected = f"{inputs[2].shape[1]} features a pair"
            raise ModelError(f"{folder / 'probe.parquet'}: expected {expected}, found {stored.shape[1]}")
        drift = np.abs(inputs[2] - stored)
        _refuse(drift, FEATURE_TOLERANCE, group, scorer.feature_names, folder)
        moved = np.abs(scorer.run(*inputs) - group.select(scorer.scale.probability_columns).to_numpy())
        _refuse(moved, PROBABILITY_TOLERANCE, group, scorer.scale.probability_columns, folder)
        worst = {
            "features": max(worst["features"], float(drift.max())),
            "probabilities": max(worst["probabilities"], float(moved.max())),
        }
    return worst


def _refuse(
    drift: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    tolerance: float,
    group: pl.DataFrame,
    names: tuple[str, ...],
    folder: Path,
) -> None:
    drift = np.nan_to_num(drift, nan=np.inf)
    if (drift <= tolerance).all():
        return
    pair, column = np.unravel_index(int(drift.argmax()), drift.shape)
    row = group.row(int(pair), named=True)
    raise ModelError(
        f"{folder}: parity: {names[int(column)]} of ({row['query']!r}, {row['item_id']}): expected within {tolerance:g} of "
        f"training, found a difference of {drift[pair, column]:.3g}"
    )
