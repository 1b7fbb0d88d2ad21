"""Which features matter: how much the mean AUROC of judged pairs falls when one feature is shuffled among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.bundle.scorer import Scorer
from pertinent.evaluation.classification import mean_auroc

IMPORTANCE_FILE = "importance.json"


def permutation_importance(scorer: Scorer, judged: pl.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    """[{"feature", "auroc_drop"}], the largest drop first; "vectors" stands for all of the network's vectors together.

    judged: query, item_id (in the bundle), grade; at least one pair. A drop below 0 is noise. Features that say the same
    stand in for one another: each may show a small drop and both together a large one.
    Source: Breiman 2001, doi:10.1023/A:1010933404324, section 10.
    """
    queries, items, features = _inputs(scorer, judged)
    grades = judged["grade"].to_numpy().astype(np.int64)
    rng = np.random.default_rng(seed)

    def auroc(queries: NDArray[np.float32], items: NDArray[np.float32], features: NDArray[np.float32]) -> float:
        return mean_auroc(grades, _run(scorer, queries, items, features, judged))

    whole = auroc(queries, items, features)
    order = rng.permutation(judged.height)
    drops = {"vectors": whole - auroc(queries, items[order], features)}
    for column, name in enumerate(scorer.feature_names):
        shuffled = features.copy()
        shuffled[:, column] = features[rng.permutation(judged.height), column]
        drops[name] = whole - auroc(queries, items, shuffled)
    return [{"feature": name, "auroc_drop": drop} for name, drop in sorted(drops.items(), key=lambda row: -row[1])]


def _groups(judged: pl.DataFrame) -> list[tuple[str, NDArray[np.int64]]]:
    grouped = judged.with_row_index("row").group_by(["query"], maintain_order=True)
    return [(str(query), group["row"].to_numpy().astype(np.int64)) for (query,), group in grouped]


def _inputs(
    scorer: Scorer, judged: pl.DataFrame
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """A query vector a group, an item vector and features a pair."""
    rows = scorer.row_of.find(judged["item_id"].to_list())
    queries = []
    items = np.empty((judged.height, scorer.item_vectors.widths[0]), dtype=np.float32)
    features = np.empty((judged.height, len(scorer.feature_names)), dtype=np.float32)
    for query, places in _groups(judged):
        vector, items[places], features[places] = scorer.inputs(query, rows[places], halves=False)
        queries.append(vector)
    return np.concatenate(queries), items, features


def _run(
    scorer: Scorer,
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    features: NDArray[np.float32],
    judged: pl.DataFrame,
) -> NDArray[np.float32]:
    probs = np.empty((judged.height, scorer.scale.n_grades), dtype=np.float32)
    for (_, places), vector in zip(_groups(judged), queries, strict=True):
        probs[places] = scorer.run(vector[None], items[places], features[places])
    return probs
