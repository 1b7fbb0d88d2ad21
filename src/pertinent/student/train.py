"""Train the student on soft labels: cross-entropy to the teacher's distribution, stopped on the dev split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from pertinent.bundle.scorer import open_bundle
from pertinent.data.build import load_dataset
from pertinent.errors import ConfigError, DataError, ModelError
from pertinent.evaluation.calibration import TemperatureScaling
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.features.encoder import mean_vectors
from pertinent.features.ragged import Ragged
from pertinent.files import atomic_path, write_json
from pertinent.progress import progress, say
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import (
    Catalogue,
    PairRows,
    check_labels,
    human_rows,
    pair_rows,
    read_catalogue,
    read_labels,
    with_sides,
)
from pertinent.student.export import TrainedStudent, export_bundle, spread
from pertinent.student.importance import IMPORTANCE_FILE, permutation_importance
from pertinent.student.loss import margin_loss, soft_cross_entropy
from pertinent.student.network import StaticTable, StudentHead, bags
from pertinent.types import StageResult

_LEAST_STEPS, _LEAST_PAIRS = 16, 32  # a small data set would end after a handful of steps otherwise
_IMPORTANCE_PAIRS = 5_000  # of dev: each feature costs one more run over them
_SMOOTHING = 1e-3  # a token's first weight is a / (a + its frequency); Arora et al. 2017, section 3


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
    out: an existing folder; an interrupted run's out/training.pt is continued after its last whole epoch.
    Also writes history.json: [{"epoch", "loss", "dev_loss", "dev_auroc"}]; the best epoch by dev AUROC is kept;
    and importance.json, see `permutation_importance`, on the dev pairs.
    """
    torch.manual_seed(seed)
    dataset = load_dataset(data)
    tokenizer = Tokenizer.from_file(str(labels / "tokenizer.json"))
    catalogue = read_catalogue(text, tokenizer)
    names = dataset.scale.probability_columns
    soft = read_labels(labels, names)
    check_labels(soft, names, labels)
    n_labels = soft.height
    humans = human_rows(dataset.judgments, names, config.human_weight)
    soft = pl.concat([soft, humans], how="vertical_relaxed").filter(pl.col("weight") > 0)
    if not soft.height:
        raise DataError(f"{labels}: expected label rows with a weight above 0, found none")
    expected_grades = soft.select(names).to_numpy() @ np.arange(dataset.scale.n_grades)
    weighted = soft.select("query", "item_id", weight=pl.col("weight") * pl.Series(expected_grades))
    catalogue = with_sides(catalogue, config.features, dataset.items, weighted, mined or {})
    dev = dataset.judgments.filter(pl.col("split") == "dev")
    train_rows = pair_rows(soft.with_columns(split=pl.lit("train")), catalogue, tokenizer, "label")
    dev_rows = pair_rows(dev, catalogue, tokenizer, "dev")

    start = _first_vectors(labels / "token_vectors.npy", config.dimensions)
    learner = _Learner.of(config, start, catalogue, train_rows, dataset.scale.n_grades)
    targets = soft.select(names).to_numpy().astype(np.float32)
    grades = dev["grade"].to_numpy().astype(np.int64)

    def judge() -> dict[str, float]:
        logits = learner.logits(dev_rows, catalogue, start)
        if not np.isfinite(logits).all():
            raise ModelError("student: the network gives NaN; lower student.learning_rate")
        scaling = TemperatureScaling.fit(logits, grades)
        probs = scaling.probabilities(logits)
        loss = log_loss(grades, probs)
        assert loss is not None
        found = {"dev_loss": loss, "dev_auroc": mean_auroc(grades, probs)}
        return {**found, "temperature": scaling.temperature}

    weights = soft["weight"].to_numpy().astype(np.float32)
    history = _fit(config, learner, train_rows, targets, weights, catalogue, judge, out, seed)
    best = max(history, key=lambda row: row["dev_auroc"])
    table = learner.full_table(start)
    trained = TrainedStudent(learner.head, best["temperature"], table, catalogue, tokenizer, dataset.scale)
    parity = export_bundle(
        trained, dev, out, dataset=dataset, n_probe=config.probe_pairs, vectors=config.export.vectors
    )
    bundle = open_bundle(out)
    write_json(out / IMPORTANCE_FILE, permutation_importance(bundle, spread(dev, _IMPORTANCE_PAIRS), seed=seed))
    (out / "training.pt").unlink(missing_ok=True)
    counts = {
        "label_rows": n_labels,
        "human_rows": humans.height if config.human_weight > 0 else 0,
        "label_queries": len(train_rows.queries),
        "dev_rows": dev.height,
        "items": len(catalogue.ids),
        "features": train_rows.features.shape[1],
        "epochs_run": len(history),
        **{f"best_{key}": best[key] for key in ("epoch", "dev_loss", "dev_auroc", "temperature")},
        "parity": parity,
        "vectors": bundle.description["vectors"],
        "store_bytes_per_item": bundle.description["store_bytes_per_item"],
        "bundle_bytes": sum(file["bytes"] for file in bundle.description["files"].values()),
    }
    return StageResult(counts)


def _first_vectors(file: Path, dimensions: int) -> NDArray[np.float32]:
    """(V, dimensions) float32: where the static encoder starts from."""
    vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    if vectors.shape[1] < dimensions:
        raise ConfigError(
            f"student.dimensions: expected at most the {vectors.shape[1]} of the teacher's token vectors, found {dimensions}"
        )
    return np.ascontiguousarray(vectors[:, :dimensions], dtype=np.float32)


@dataclass
class _Learner:
    """The table of the tokens in use, the head, and which row of the full table each token has."""

    table: StaticTable
    head: StudentHead
    position: NDArray[np.int64]  # (V,) row in the small table, -1 for a token not in use
    kept: NDArray[np.int64]

    @classmethod
    def of(
        cls, config: StudentConfig, start: NDArray[np.float32], catalogue: Catalogue, rows: PairRows, n_grades: int
    ) -> _Learner:
        used = np.concatenate([catalogue.tokens.values, rows.query_tokens.values])
        frequency = np.bincount(used, minlength=start.shape[0]) / max(used.size, 1)
        kept = np.flatnonzero(frequency)
        position = np.full(start.shape[0], -1, dtype=np.int64)
        position[kept] = np.arange(kept.size)
        weights = (_SMOOTHING / (_SMOOTHING + frequency[kept])).astype(np.float32)
        mean, std = rows.features.mean(axis=0), rows.features.std(axis=0)
        head = StudentHead(start.shape[1], mean, std, config.hidden, n_grades, config.dropout, config.feature_dropout)
        return cls(StaticTable(start[kept], weights), head, position, kept)

    def compact(self, tokens: Ragged) -> Ragged:
        """Token ids in use as rows of the small table."""
        return Ragged(self.position[tokens.values].astype(np.int32), tokens.starts)

    def full_table(self, start: NDArray[np.float32]) -> NDArray[np.float16]:
        """(V, d) float16: trained rows where there are some, the first vectors (weight 1) elsewhere."""
        table = start.astype(np.float16)
        table[self.kept] = self.table.weighted().astype(np.float16)
        return table

    def logits(self, rows: PairRows, catalogue: Catalogue, start: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, n) float32, with the table as it will be served."""
        table = self.full_table(start).astype(np.float32)
        item_rows, index = np.unique(rows.item_rows, return_inverse=True)
        queries, items = mean_vectors(rows.query_tokens, table), mean_vectors(catalogue.tokens.take(item_rows), table)
        self.head.eval()
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.head(
                torch.from_numpy(queries[rows.query_rows]),
                torch.from_numpy(items[index]),
                torch.from_numpy(rows.features),
            ).numpy()
        self.head.train()
        return logits


def step_pairs(config: StudentConfig, n_rows: int) -> int:
    """Pairs an optimiser step: batch_size, but few enough for 16 steps an epoch, and 32 at least (or batch_size)."""
    return min(config.batch_size, max(n_rows // _LEAST_STEPS, _LEAST_PAIRS))


def _order(query_rows: NDArray[np.int64], seed: tuple[int, int], *, by_query: bool) -> NDArray[np.int64]:
    """The rows of an epoch in random order; by_query: the rows of a query stand together, so that batches hold pairs."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(query_rows.size)
    if by_query:
        place = rng.permutation(int(query_rows.max()) + 1)
        order = order[np.argsort(place[query_rows[order]], kind="stable")]
    return order


def _fit(
    config: StudentConfig,
    learner: _Learner,
    rows: PairRows,
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    catalogue: Catalogue,
    judge: Callable[[], dict[str, float]],
    out: Path,
    seed: int,
) -> list[dict[str, Any]]:
    """Train with early stopping; leaves the best epoch's weights in the learner. Returns the history."""
    n_rows = targets.shape[0]
    batch_size = step_pairs(config, n_rows)
    steps = -(-n_rows // batch_size)
    optimizer = torch.optim.AdamW(
        [
            {"params": learner.head.parameters(), "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": learner.table.parameters(), "lr": config.vector_learning_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * config.epochs)
    modules = nn.ModuleDict({"head": learner.head, "table": learner.table})
    best: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    checkpoint = out / "training.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        best, history = state["best"], state["history"]
        say(f"student: continuing after epoch {len(history)}")
    query_tokens, item_tokens = learner.compact(rows.query_tokens), learner.compact(catalogue.tokens)
    with progress("student: train", n_rows * config.epochs, "pairs", n_rows * len(history)) as bar:
        for epoch in range(len(history), config.epochs):
            if history and len(history) - max(history, key=lambda row: row["dev_auroc"])["epoch"] >= config.patience:
                break
            torch.manual_seed(seed * 1000 + epoch)  # a resumed epoch draws the same dropout
            order = _order(rows.query_rows, (seed, epoch), by_query=config.margin_weight > 0)
            losses = []
            for i in range(0, n_rows, batch_size):
                batch = order[i : i + batch_size]
                query_of, query_index = np.unique(rows.query_rows[batch], return_inverse=True)
                queries = learner.table(*bags(query_tokens.take(query_of)))[torch.from_numpy(query_index)]
                items = learner.table(*bags(item_tokens.take(rows.item_rows[batch])))
                logits = learner.head(queries, items, torch.from_numpy(rows.features[batch]))
                wanted = torch.from_numpy(targets[batch])
                loss = soft_cross_entropy(logits, wanted, torch.from_numpy(weights[batch]), config.temperature)
                if config.margin_weight > 0:
                    loss = loss + config.margin_weight * margin_loss(logits, wanted, torch.from_numpy(query_index))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.advance(batch.size, f"loss {losses[-1]:.3f}")
            history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), **judge()})
            if history[-1] == max(history, key=lambda row: row["dev_auroc"]):
                best = copy.deepcopy(modules.state_dict())
            write_json(out / "history.json", history)
            state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
            with atomic_path(checkpoint) as temporary:
                torch.save({**state, "schedule": schedule.state_dict(), "history": history}, temporary)
    modules.load_state_dict(best)
    return history
