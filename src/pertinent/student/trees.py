"""The second backend: LightGBM on the scalar features, boosted on the teacher's soft grades.

The objective is the cross-entropy to the soft targets themselves, softmax over one tree a grade and round, given to
LightGBM as its gradient w (q - p) and the diagonal w n / (n - 1) q (1 - q) of its Hessian, as its own multiclass
objective has for hard labels; no row is repeated. A judged row is a target with all probability on its grade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pertinent.errors import ConfigError
from pertinent.features.assemble import all_specs
from pertinent.files import write_json
from pertinent.progress import progress
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import left_out
from pertinent.student.judging import best_of, judged
from pertinent.student.prepare import Prepared
from pertinent.student.rows import RowCache
from pertinent.student.vectors import TextVectors

_JUDGED_EVERY = 10  # rounds
_LEAST = 1e-7  # of a grade's share among the targets, in a logarithm


@dataclass(frozen=True)
class Trees:
    """base: (n,) float64 logits before the first tree. rounds: trees of each grade that count. booster: lightgbm.Booster."""

    base: NDArray[np.float64]
    booster: Any
    rounds: int

    def logits(self, scalars: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, n) float64 of (N, F + 1) float32: the features, then the cosine of query and item vector."""
        raw = self.booster.predict(scalars, raw_score=True, num_iteration=self.rounds)
        return np.asarray(raw, dtype=np.float64).reshape(-1, self.base.size) + self.base


def scalars_of(
    queries: NDArray[np.float32], items: NDArray[np.float32], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What the trees read: (N, F + 1) float32. queries, items: (N, d) unit vectors of each pair.

    The cosine is summed in float64: with another order of the terms its last bit could fall on the other side of a split.
    """
    cosines = (queries.astype(np.float64) * items).sum(axis=1, keepdims=True)
    return np.concatenate([features, cosines.astype(np.float32)], axis=1)


def fit_trees(
    config: StudentConfig, texts: TextVectors, prepared: Prepared, out: Path, seed: int
) -> tuple[Trees, list[dict[str, Any]]]:
    """Boost until the mean AUROC on dev has not risen for trees.patience judgings, one every 10 rounds.

    texts: not tuned by this backend. Writes out/history.json, whose "epoch" counts rounds; the best round
    is kept. A killed boosting begins again, on the features that are there. Raises ConfigError where LightGBM is not
    installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise ConfigError("student.backend: expected LightGBM, found none: pip install 'pertinent[trees]'") from None
    settings = config.trees
    every_item = texts.served_items(np.arange(prepared.catalogue.texts.rows.height))
    vectors = texts.served_queries(prepared.queries), every_item
    targets, weights = _targets(prepared.rows)
    shares = (targets * weights[:, None]).sum(axis=0, dtype=np.float64) / weights.sum(dtype=np.float64)
    base = np.log(np.maximum(shares, _LEAST))
    dropped = np.append(*left_out(all_specs(prepared.catalogue.sides), config.features.without))
    sequences = _sequences(lightgbm, prepared.rows, *vectors, dropped)
    options = {
        "num_class": prepared.n_grades,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_leaf_rows,
        "feature_fraction": settings.feature_share,
        "objective": "none",
        "metric": "none",
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    labels = targets.argmax(axis=1)  # read by nothing: the objective has the targets
    train = lightgbm.Dataset(sequences, labels, init_score=np.tile(base, (labels.size, 1)), params=options)
    booster = lightgbm.Booster(options, train)
    dev = prepared.dev_rows
    dev_queries = texts.served_queries(dev.queries)[dev.query_rows]
    dev_scalars = scalars_of(dev_queries, every_item[dev.item_rows], dev.features)
    history: list[dict[str, Any]] = []
    with progress("student: boost", settings.rounds, "rounds") as bar:
        for done in range(1, settings.rounds + 1):
            booster.update(fobj=lambda raw, _: soft_gradients(np.asarray(raw), targets, weights))
            bar.advance()
            if done % _JUDGED_EVERY and done < settings.rounds:
                continue
            logits = Trees(base, booster, done).logits(dev_scalars)
            history.append({"epoch": done, **judged(logits, prepared.dev_grades)})
            write_json(out / "history.json", history)
            if len(history) - 1 - history.index(best_of(history)) >= settings.patience:
                break
    return Trees(base, booster, best_of(history)["epoch"]), history


def soft_gradients(
    raw: NDArray[np.float64], targets: NDArray[np.float32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient and diagonal of the Hessian of the weighted cross-entropy by each logit: (N, n) float64 each.

    raw: (N, n) logits, or the same flat, a grade after the other.
    """
    n_rows, n = targets.shape
    logits = raw if raw.ndim == 2 else raw.reshape(n, n_rows).T
    probs = softmax(logits, axis=1)
    wide = weights[:, None].astype(np.float64)
    return wide * (probs - targets), wide * (n / (n - 1)) * probs * (1.0 - probs)


def _targets(rows: RowCache) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    blocks = [rows.block(k) for k in range(len(rows.sizes))]
    return np.concatenate([b.targets for b in blocks]), np.concatenate([b.weights for b in blocks])


def _sequences(
    lightgbm: Any,
    rows: RowCache,
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    dropped: NDArray[np.bool_],
) -> Sequence[Any]:
    """One lightgbm.Sequence a block, which LightGBM reads one after the other: one block is in memory at a time.

    dropped: (F + 1,) scalars that no tree may split, all 0 here.
    """
    held: dict[int, NDArray[np.float32]] = {}

    def scalars(k: int) -> NDArray[np.float32]:
        if k not in held:
            held.clear()
            block = rows.block(k)
            held[k] = scalars_of(queries[block.query_rows], items[block.item_rows], block.features)
            held[k][:, dropped] = 0.0
        return held[k]

    class Block(lightgbm.Sequence):  # type: ignore[misc]
        batch_size = 8192

        def __init__(self, k: int) -> None:
            self.k = k

        def __getitem__(self, index: Any) -> NDArray[np.float64]:
            return np.asarray(scalars(self.k)[index], dtype=np.float64)

        def __len__(self) -> int:
            return rows.sizes[self.k]

    return [Block(k) for k in range(len(rows.sizes))]
