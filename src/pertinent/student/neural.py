"""Train the network: cross-entropy to the teacher's distribution, in shuffled batches from disk, stopped on dev."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pertinent.errors import ConfigError, ModelError
from pertinent.evaluation.calibration import TemperatureScaling
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.features.encoder import mean_vectors
from pertinent.features.ragged import Ragged
from pertinent.files import atomic_path, write_json
from pertinent.progress import progress, say
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import Catalogue, PairRows
from pertinent.student.loss import margin_loss, soft_cross_entropy
from pertinent.student.network import StaticTable, StudentHead, bags
from pertinent.student.prepare import Prepared

CHECKPOINT, HISTORY = "training.pt", "history.json"
_LEAST_STEPS, _LEAST_PAIRS = 16, 32  # a small data set would end after a handful of steps otherwise
_SMOOTHING = 1e-3  # a token's first weight is a / (a + its frequency); Arora et al. 2017, section 3


def first_vectors(file: Path, dimensions: int) -> NDArray[np.float32]:
    """(V, dimensions) float32: where the static encoder starts from. Raises ConfigError where the file has fewer."""
    vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    if vectors.shape[1] < dimensions:
        raise ConfigError(
            f"student.dimensions: expected at most the {vectors.shape[1]} of the teacher's token vectors, found {dimensions}"
        )
    return np.ascontiguousarray(vectors[:, :dimensions], dtype=np.float32)


@dataclass
class Learner:
    """The table of the tokens in use, the head, and which row of the full table each token has."""

    table: StaticTable
    head: StudentHead
    start: NDArray[np.float32]  # (V, d) the vectors that the table started from
    position: NDArray[np.int64]  # (V,) row in the small table, -1 for a token not in use
    kept: NDArray[np.int64]

    @classmethod
    def of(cls, config: StudentConfig, start: NDArray[np.float32], prepared: Prepared) -> Learner:
        """Untrained. start: (V, d) float32."""
        used = np.concatenate([prepared.catalogue.tokens.values, prepared.query_tokens.values])
        frequency = np.bincount(used, minlength=start.shape[0]) / max(used.size, 1)
        kept = np.flatnonzero(frequency)
        position = np.full(start.shape[0], -1, dtype=np.int64)
        position[kept] = np.arange(kept.size)
        weights = (_SMOOTHING / (_SMOOTHING + frequency[kept])).astype(np.float32)
        mean, std = prepared.rows.moments()
        sizes = (config.hidden, prepared.n_grades, config.dropout, config.feature_dropout)
        return cls(
            StaticTable(start[kept], weights), StudentHead(start.shape[1], mean, std, *sizes), start, position, kept
        )

    def compact(self, tokens: Ragged) -> Ragged:
        """Token ids in use as rows of the small table."""
        return Ragged(self.position[tokens.values].astype(np.int32), tokens.starts)

    def full_table(self) -> NDArray[np.float16]:
        """(V, d) float16: trained rows where there are some, the first vectors (weight 1) elsewhere."""
        table = self.start.astype(np.float16)
        table[self.kept] = self.table.weighted().astype(np.float16)
        return table

    def logits(self, rows: PairRows, catalogue: Catalogue) -> NDArray[np.float32]:
        """(N, n) float32, with the table as it will be served."""
        table = self.full_table().astype(np.float32)
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

    def judge(self, prepared: Prepared) -> dict[str, float]:
        """Log loss and mean AUROC of the dev pairs once calibrated, and the temperature that does it."""
        logits, grades = self.logits(prepared.dev_rows, prepared.catalogue), prepared.dev_grades
        if not np.isfinite(logits).all():
            raise ModelError("student: the network gives NaN; lower student.learning_rate")
        scaling = TemperatureScaling.fit(logits, grades)
        probs = scaling.probabilities(logits)
        loss = log_loss(grades, probs)
        assert loss is not None
        found = {"dev_loss": loss, "dev_auroc": mean_auroc(grades, probs)}
        return {**found, "temperature": scaling.temperature}


def step_pairs(config: StudentConfig, n_rows: int) -> int:
    """Pairs an optimiser step: batch_size, but few enough for 16 steps an epoch, and 32 at least (or batch_size)."""
    return min(config.batch_size, max(n_rows // _LEAST_STEPS, _LEAST_PAIRS))


def fit(config: StudentConfig, learner: Learner, prepared: Prepared, out: Path, seed: int) -> list[dict[str, Any]]:
    """Train with early stopping; leaves the best epoch's weights in the learner. Returns the history.

    out/training.pt, written after every epoch, is continued where it is there: every draw of an epoch comes from the seed
    and the epoch's number, so a continued training gives the weights of an undisturbed one.
    """
    rows = prepared.rows
    batch_size = step_pairs(config, rows.n_rows)
    optimizer = torch.optim.AdamW(
        [
            {"params": learner.head.parameters(), "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": learner.table.parameters(), "lr": config.vector_learning_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, -(-rows.n_rows // batch_size) * config.epochs)
    modules = nn.ModuleDict({"head": learner.head, "table": learner.table})
    best: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        best, history = state["best"], state["history"]
        say(f"student: continuing after epoch {len(history)}")
    query_tokens, item_tokens = learner.compact(prepared.query_tokens), learner.compact(prepared.catalogue.tokens)
    by_query = config.margin_weight > 0
    with progress("student: train", rows.n_rows * config.epochs, "pairs", rows.n_rows * len(history)) as bar:
        for epoch in range(len(history), config.epochs):
            if history and len(history) - max(history, key=lambda row: row["dev_auroc"])["epoch"] >= config.patience:
                break
            torch.manual_seed(seed * 1000 + epoch)  # a resumed epoch draws the same dropout
            losses = []
            for batch in rows.batches(batch_size, config.buffer_rows, (seed, epoch), by_query=by_query):
                query_of, query_index = np.unique(batch.query_rows, return_inverse=True)
                places = torch.from_numpy(query_index)
                queries = learner.table(*bags(query_tokens.take(query_of.astype(np.int64))))[places]
                items = learner.table(*bags(item_tokens.take(batch.item_rows.astype(np.int64))))
                logits = learner.head(queries, items, torch.from_numpy(batch.features))
                wanted = torch.from_numpy(batch.targets)
                loss = soft_cross_entropy(logits, wanted, torch.from_numpy(batch.weights), config.temperature)
                if config.margin_weight > 0:
                    loss = loss + config.margin_weight * margin_loss(logits, wanted, places)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.advance(len(batch), f"loss {losses[-1]:.3f}")
            history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), **learner.judge(prepared)})
            if history[-1] == max(history, key=lambda row: row["dev_auroc"]):
                best = copy.deepcopy(modules.state_dict())
            write_json(out / HISTORY, history)
            state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
            with atomic_path(checkpoint) as temporary:
                torch.save({**state, "schedule": schedule.state_dict(), "history": history}, temporary)
    modules.load_state_dict(best)
    return history
