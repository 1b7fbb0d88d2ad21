"""The student stage: soft labels -> a trained student -> a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pertinent.bundle.scorer import open_bundle
from pertinent.errors import ConfigError
from pertinent.features.assemble import all_specs
from pertinent.features.encoder import TOKEN_VECTORS
from pertinent.features.sentence import ABOUT, SentenceGraph
from pertinent.files import write_json
from pertinent.student.config import StudentConfig
from pertinent.student.export import TrainedStudent, export_bundle, spread
from pertinent.student.importance import IMPORTANCE_FILE, permutation_importance
from pertinent.student.judging import best_of
from pertinent.student.neural import CHECKPOINT, Learner, fit
from pertinent.student.prepare import CACHE, Prepared, prepare
from pertinent.student.sentence import export_graph, load_encoder
from pertinent.student.served import ServedModel, ServedNetwork
from pertinent.student.tower import train_tower
from pertinent.student.vectors import SentenceVectors, StaticVectors, TextVectors, first_vectors
from pertinent.types import StageResult

VECTORS = "vectors"  # in the stage's folder while it works: a sentence encoder's graph and vectors
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
    encoder: Path | None = None,
) -> StageResult:
    """Train on the shards of ``labels`` and write a bundle into ``out``.

    mined: the folders of the stages "mine" and "boards", which engagement and graph features read.
    labels: also holds tokenizer.json and token_vectors.npy (V, >= d), where the static encoder starts from.
    encoder: a folder of `pertinent.teacher.unpack.write_encoder`, which a sentence encoder or tower is made of.
    out: an existing folder; what a killed run left there, features in out/rows, vectors in out/vectors and the last
    whole epoch in out/training.pt, is continued. Also writes history.json: [{"epoch", "loss", "dev_loss", "dev_auroc"}];
    the best epoch (of boosted trees, round) by dev AUROC is kept; and importance.json, see `permutation_importance`, on
    the dev pairs.
    """
    texts_of = _text_vectors(config, labels, encoder, out, seed)
    prepared = prepare(config, data, text, labels, out, mined or {})
    texts = texts_of(prepared)
    model, history, best = _fitted(config, texts, prepared, out, seed)
    trained = TrainedStudent(
        model,
        texts.encoder(),
        prepared.catalogue,
        prepared.tokenizer,
        prepared.dataset.scale,
        texts.served_items(np.arange(len(prepared.catalogue.ids))),
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
    for folder in (CACHE, VECTORS):
        shutil.rmtree(out / folder, ignore_errors=True)
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


def _fitted(
    config: StudentConfig, texts: TextVectors, prepared: Prepared, out: Path, seed: int
) -> tuple[ServedModel, list[dict[str, Any]], dict[str, Any]]:
    """The model, the history, and its best row."""
    specs = all_specs(prepared.catalogue.sides)
    if config.backend == "lightgbm":
        from pertinent.student.tree_graph import ServedTrees
        from pertinent.student.trees import fit_trees

        trees, history = fit_trees(config, texts, prepared, out, seed)
        best = best_of(history)
        return ServedTrees(trees, best["temperature"], len(specs)), history, best
    torch.manual_seed(seed)  # here: whatever was drawn before depends on what a killed run had left
    learner = Learner.of(config, texts, prepared)
    history = fit(config, learner, prepared, out, seed)
    best = best_of(history)
    return ServedNetwork(learner.head, best["temperature"], specs), history, best


def _text_vectors(
    config: StudentConfig, labels: Path, source: Path | None, out: Path, seed: int
) -> Callable[[Prepared], TextVectors]:
    """Prepared -> its vectors; what is wrong with the settings is told before anything is prepared."""
    if config.encoder == "static":
        start = first_vectors(labels / TOKEN_VECTORS, config.dimensions)
        return lambda prepared: StaticVectors.of(start, prepared)
    if source is None:
        raise ConfigError(f"student.encoder: expected an encoder's folder for {config.encoder}, found none")
    encoder = load_encoder(source)
    if config.dimensions > (width := int(encoder.config.hidden_size)):
        raise ConfigError(f"student.dimensions: expected at most the {width} of the encoder, found {config.dimensions}")
    folder = out / VECTORS

    def of(prepared: Prepared) -> TextVectors:
        graph = folder / "graph"
        if not (graph / ABOUT).is_file():  # written last
            graph.mkdir(parents=True, exist_ok=True)
            trained = encoder
            if config.encoder == "tower":
                trained = train_tower(
                    config.tower, encoder, source, prepared, folder, buffer_rows=config.buffer_rows, seed=seed
                )
            export_graph(trained, source, graph)
        return SentenceVectors.of(SentenceGraph.open(graph), config, prepared, folder)

    return of
