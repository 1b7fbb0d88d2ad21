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

from pertinent.errors import ModelError
from pertinent.features.assemble import all_specs
from pertinent.files import atomic_path, write_json
from pertinent.progress import progress, say
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import PairRows, left_out
from pertinent.student.judging import best_of, judged
from pertinent.student.loss import margin_loss, soft_cross_entropy
from pertinent.student.network import StudentHead
from pertinent.student.prepare import Prepared
from pertinent.student.vectors import TextVectors

CHECKPOINT, HISTORY = "training.pt", "history.json"
_LEAST_STEPS, _LEAST_PAIRS = 16, 32  # a small data set would end after a handful of steps otherwise


@dataclass
class Learner:
    """The head and the vectors that it reads."""

    texts: TextVectors
    head: StudentHead

    @classmethod
    def of(cls, config: StudentConfig, texts: TextVectors, prepared: Prepared) -> Learner:
        """Untrained."""
        mean, std = prepared.rows.moments()
        dropped, no_vectors = left_out(all_specs(prepared.catalogue.sides), config.features.without)
        std[dropped] = 0.0  # as of a feature that never moved: it counts for nothing
        sizes = (config.hidden, prepared.n_grades, config.dropout, config.feature_dropout)
        head = StudentHead(config.dimensions, mean, std, *sizes)
        if no_vectors:
            head.leave_out_vectors()
        return cls(texts, head)

    def logits(self, rows: PairRows) -> NDArray[np.float32]:
        """(N, n) float32, with the vectors as they will be served."""
        item_rows, index = np.unique(rows.item_rows, return_inverse=True)
        queries, items = self.texts.served_queries(rows.queries), self.texts.served_items(item_rows)
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
        """What `judged` says of the dev pairs. Raises ModelError where the network gives NaN."""
        logits = self.logits(prepared.dev_rows)
        if not np.isfinite(logits).all():
            raise ModelError("student: the network gives NaN; lower student.learning_rate")
        return judged(logits, prepared.dev_grades)


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
            {"params": learner.texts.module.parameters(), "lr": config.vector_learning_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, -(-rows.n_rows // batch_size) * config.epochs)
    modules = nn.ModuleDict({"head": learner.head, "texts": learner.texts.module})
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
    by_query = config.margin_weight > 0
    with progress("student: train", rows.n_rows * config.epochs, "pairs", rows.n_rows * len(history)) as bar:
        for epoch in range(len(history), config.epochs):
            if history and len(history) - best_of(history)["epoch"] >= config.patience:
                break
            torch.manual_seed(seed * 1000 + epoch)  # a resumed epoch draws the same dropout
            losses = []
            for batch in rows.batches(batch_size, config.buffer_rows, (seed, epoch), by_query=by_query):
                query_of, query_index = np.unique(batch.query_rows, return_inverse=True)
                places = torch.from_numpy(query_index)
                queries = learner.texts.queries(query_of.astype(np.int64))[places]
                items = learner.texts.items(batch.item_rows.astype(np.int64))
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
            if history[-1] is best_of(history):
                best = copy.deepcopy(modules.state_dict())
            write_json(out / HISTORY, history)
            state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
            with atomic_path(checkpoint) as temporary:
                torch.save({**state, "schedule": schedule.state_dict(), "history": history}, temporary)
    modules.load_state_dict(best)
    return history
