"""The tower: a transformer bi-encoder that learns the teacher's labels, before its vectors are frozen as a sentence encoder's.

Both sides share one transformer. The grades' logits of a pair are a cosine times a learned slope plus a learned level for each
grade, so that all that a vector can say is in the cosine; the loss is the student's own. Dropout is off: a step depends on
its batch alone, and a continued training ends with the weights of an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from pertinent.errors import ModelError
from pertinent.features.sentence import ABOUT, TOKENIZER
from pertinent.files import atomic_path, read_json
from pertinent.progress import progress, say
from pertinent.student.config import TowerConfig
from pertinent.student.loss import soft_cross_entropy
from pertinent.student.prepare import Prepared
from pertinent.student.sentence import Pooling

CHECKPOINT = "tower.pt"
_FIRST_SLOPE = 5.0  # between the logits of neighbouring grades, a cosine apart


class GradeLevels(nn.Module):
    """cosines (B,) -> logits (B, n): slope_k cosine + level_k; slopes start evenly spaced, levels at 0."""

    def __init__(self, n_grades: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(_FIRST_SLOPE * (torch.arange(n_grades) - (n_grades - 1) / 2))
        self.levels = nn.Parameter(torch.zeros(n_grades))

    def forward(self, cosines: Tensor) -> Tensor:
        return cosines[:, None] * self.slopes + self.levels


class Towers:
    """A transformer with its tokenizer and rule: texts -> unit vectors with gradients."""

    def __init__(self, encoder: Any, folder: Path) -> None:
        about = read_json(folder / ABOUT)
        self.encoder, self.pooling = encoder, about["pooling"]
        self.prefixes = {"query": about["query_prefix"], "text": about["text_prefix"]}
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(about["max_tokens"])
        self.pad_id = int(encoder.config.pad_token_id or 0)  # never attended to

    def vectors(self, texts: Sequence[str], side: str) -> Tensor:
        """(B, width), as the exported graph gives of each text alone but for its 8-bit weights."""
        encodings = self.tokenizer.encode_batch([self.prefixes[side] + text for text in texts])
        rows = [torch.tensor(encoding.ids or [self.pad_id]) for encoding in encodings]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([row.numel() for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(_pooled(states, mask, lengths, self.pooling), dim=1)


def _pooled(states: Tensor, mask: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(states.shape[0]), lengths - 1]
    return (states * mask[:, :, None]).sum(1) / lengths[:, None]


def train_tower(
    config: TowerConfig, encoder: Any, source: Path, prepared: Prepared, out: Path, *, buffer_rows: int, seed: int
) -> Any:
    """Train ``encoder`` on at most config.rows label rows a pass and return it, in eval mode.

    source: the folder that it came from, with tokenizer and rule. out: holds tower.pt, written every checkpoint_steps
    steps, from which a killed training goes on. Raises ModelError where the loss is not a number.
    """
    towers, levels = Towers(encoder.eval(), source), GradeLevels(prepared.n_grades)
    modules = nn.ModuleDict({"encoder": encoder, "levels": levels})
    optimizer = torch.optim.AdamW(
        [
            {"params": encoder.parameters(), "lr": config.learning_rate, "weight_decay": 0.01},
            {"params": levels.parameters(), "lr": config.levels_learning_rate, "weight_decay": 0.0},
        ]
    )
    n_rows = min(config.rows, prepared.rows.n_rows)
    steps_a_pass = -(-n_rows // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps_a_pass * config.epochs)
    done = _continued(out / CHECKPOINT, modules, optimizer, schedule)
    texts = prepared.catalogue.texts.rows["text"]
    with progress("student: tower", steps_a_pass * config.epochs, "steps", done) as bar:
        for epoch in range(config.epochs):
            for k, batch in enumerate(
                prepared.rows.batches(config.batch_size, buffer_rows, (seed, epoch, 1)), epoch * steps_a_pass
            ):
                if k >= (epoch + 1) * steps_a_pass:
                    break
                if k < done:
                    continue
                query_of, place = np.unique(batch.query_rows, return_inverse=True)
                queries = towers.vectors([prepared.queries[row] for row in query_of], "query")[torch.from_numpy(place)]
                items = towers.vectors(texts.gather(batch.item_rows).to_list(), "text")
                logits = levels((queries * items).sum(1))
                loss = soft_cross_entropy(logits, torch.from_numpy(batch.targets), torch.from_numpy(batch.weights))
                if not torch.isfinite(loss):
                    raise ModelError("student: the tower's loss is not a number; lower student.tower.learning_rate")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                bar.advance(1, f"loss {loss.item():.3f}")
                if (k + 1) % config.checkpoint_steps == 0:
                    _save(out / CHECKPOINT, modules, optimizer, schedule, k + 1)
    return encoder


def _continued(file: Path, modules: nn.Module, optimizer: Any, schedule: Any) -> int:
    """The steps that a killed training had made; 0 where there is none."""
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    say(f"student: tower: continuing after step {state['steps']:,}")
    return int(state["steps"])


def _save(file: Path, modules: nn.Module, optimizer: Any, schedule: Any, steps: int) -> None:
    state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    with atomic_path(file) as temporary:
        torch.save({**state, "steps": steps}, temporary)
