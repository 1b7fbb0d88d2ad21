"""The parity gate: a bundle's own code must give the training side's features and probabilities, or it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from pertinent.bundle.format import bundle_folder
from pertinent.bundle.scorer import Scorer, open_bundle
from pertinent.bundle.store import PROBE
from pertinent.errors import ModelError
from pertinent.features.lexical import FEATURE_NAMES
from pertinent.files import read_parquet

FEATURE_TOLERANCE = 1e-6
PROBABILITY_TOLERANCE = 1e-5


def verify_bundle(folder: Path) -> dict[str, float]:
    """Check every file's whole hash and replay the probe pairs through the bundle, on its stored vectors.

    Returns the largest differences {"features", "probabilities"}. Raises ModelError, naming the feature and the pair,
    where a lexical feature differs at all, another by more than 1e-6 or a probability by more than 1e-5, and where there
    is nothing to replay.
    """
    folder = bundle_folder(folder)
    scorer = open_bundle(folder, whole=True)
    return replay(scorer, folder / scorer.description["store"] / PROBE)


def replay(scorer: Scorer, file: Path) -> dict[str, float]:
    """The parity gate alone: the probe pairs of ``file`` through an opened bundle; see `verify_bundle`."""
    probe = read_parquet(file).with_row_index("row")
    if not probe.height:
        raise ModelError(f"{file}: expected pairs to replay, found none")
    n_lexical = len(FEATURE_NAMES)  # its columns come first
    worst = {"features": 0.0, "probabilities": 0.0}
    for (query,), group in probe.group_by(["query"], maintain_order=True):
        rows = scorer.row_of.find(group["item_id"].to_list())
        if rows.min() < 0:
            missing = group["item_id"][int(rows.argmin())]
            raise ModelError(f"{file}: expected items of the bundle, found {missing}")
        inputs = scorer.inputs(str(query), rows)
        stored = np.array(group["features"].to_list(), dtype=np.float32).reshape(rows.size, -1)
        if stored.shape != inputs[2].shape:
            expected = f"{inputs[2].shape[1]} features a pair"
            raise ModelError(f"{file}: expected {expected}, found {stored.shape[1]}")
        drift = np.abs(inputs[2] - stored)
        _refuse(drift[:, :n_lexical], 0.0, group, scorer.feature_names, file)
        _refuse(drift[:, n_lexical:], FEATURE_TOLERANCE, group, scorer.feature_names[n_lexical:], file)
        moved = np.abs(scorer.run(*inputs) - group.select(scorer.scale.probability_columns).to_numpy())
        _refuse(moved, PROBABILITY_TOLERANCE, group, scorer.scale.probability_columns, file)
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
    file: Path,
) -> None:
    drift = np.nan_to_num(drift, nan=np.inf)
    if (drift <= tolerance).all():
        return
    pair, column = np.unravel_index(int(drift.argmax()), drift.shape)
    row = group.row(int(pair), named=True)
    within = f"within {tolerance:g} of" if tolerance else "exactly what it was in"
    raise ModelError(
        f"{file}: parity: {names[int(column)]} of ({row['query']!r}, {row['item_id']}): expected {within} "
        f"training, found a difference of {drift[pair, column]:.3g}"
    )
