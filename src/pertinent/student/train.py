"""The student stage: soft labels -> a trained student -> a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from pertinent.bundle.scorer import open_bundle
from pertinent.files import write_json
from pertinent.student.config import StudentConfig
from pertinent.student.export import TrainedStudent, export_bundle, spread
from pertinent.student.importance import IMPORTANCE_FILE, permutation_importance
from pertinent.student.neural import CHECKPOINT, Learner, first_vectors, fit
from pertinent.student.prepare import CACHE, prepare
from pertinent.types import StageResult

_IMPORTANCE_PAIRS = 5_000  # of dev: each feature costs one more run over them


def train_student(
    config: StudentConfig,
    data: Path,
    text: Path,
    labels: Path,
    out: Path,
    *,
    seed: int,
    mined: Mapping[str, Path] | None = None,
) -> StageResult:
    """Train on the shards of ``labels`` and write a bundle into ``out``.

    mined: the folders of the stages "mine" and "boards", which engagement and graph features read.
    labels: also holds tokenizer.json and token_vectors.npy (V, >= d), where the static encoder starts from.
    out: an existing folder; what a killed run left there, features in out/rows and the last whole epoch in
    out/training.pt, is continued. Also writes history.json: [{"epoch", "loss", "dev_loss", "dev_auroc"}]; the best
    epoch by dev AUROC is kept; and importance.json, see `permutation_importance`, on the dev pairs.
    """
    torch.manual_seed(seed)
    start = first_vectors(labels / "token_vectors.npy", config.dimensions)
    prepared = prepare(config, data, text, labels, out, mined or {})
    learner = Learner.of(config, start, prepared)
    history = fit(config, learner, prepared, out, seed)
    best = max(history, key=lambda row: row["dev_auroc"])
    trained = TrainedStudent(
        learner.head,
        best["temperature"],
        learner.full_table(),
        prepared.catalogue,
        prepared.tokenizer,
        prepared.dataset.scale,
    )
    parity = export_bundle(
        trained,
        prepared.dev,
        out,
        dataset=prepared.dataset,
        n_probe=config.probe_pairs,
        vectors=config.export.vectors,
    )
    bundle = open_bundle(out)
    judged = spread(prepared.dev, _IMPORTANCE_PAIRS)
    write_json(out / IMPORTANCE_FILE, permutation_importance(bundle, judged, seed=seed))
    (out / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(out / CACHE, ignore_errors=True)
    counts = {
        **prepared.counts,
        "features": prepared.dev_rows.features.shape[1],
        "epochs_run": len(history),
        **{f"best_{key}": best[key] for key in ("epoch", "dev_loss", "dev_auroc", "temperature")},
        "parity": parity,
        "vectors": bundle.description["vectors"],
        "store_bytes_per_item": bundle.description["store_bytes_per_item"],
        "bundle_bytes": sum(file["bytes"] for file in bundle.description["files"].values()),
    }
    return StageResult(counts)
