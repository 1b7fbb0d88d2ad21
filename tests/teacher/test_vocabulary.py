from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.pairs import pad_batch
from pertinent.teacher.saving import Trained
from pertinent.teacher.train import new_network
from pertinent.teacher.trainer import parameter_groups
from pertinent.teacher.vocabulary import CompactVocabulary, static_vectors

ROWS = [[2, 5, 9, 3, 11, 3], [2, 7, 3, 5, 3], [2, 40, 3, 9, 9, 3]]
TARGETS = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
CONFIG = TeacherConfig(learning_rate=1e-2)


def train(model: CrossEncoder, rows: list[list[int]], pad_id: int, steps: int = 8) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(model, model, CONFIG))
    for step in range(steps):
        chosen = [step % 3, (step + 1) % 3]  # a batch of 2, so that some words miss some steps
        ids, mask = pad_batch([rows[i] for i in chosen], pad_id)
        optimizer.zero_grad()
        model(ids, mask, TARGETS[chosen]).loss.backward()
        optimizer.step()


def word_vectors(model: CrossEncoder) -> torch.Tensor:
    words: torch.Tensor = model.get_input_embeddings().weight.detach()
    return words


@pytest.mark.parametrize("kind", ["bert", "t5", "llama"])
def test_training_the_words_in_use_equals_training_the_whole_table(
    tiny_folder: Callable[[str], Path], kind: str
) -> None:
    full = new_network(resolve_backbone(str(tiny_folder(kind))), CONFIG, 3, seed=0)
    first_words = word_vectors(full).clone()
    compact = copy.deepcopy(full)
    train(full, ROWS, 0)

    vocabulary = CompactVocabulary(compact.encoder, {i for row in ROWS for i in row}, 0)
    vocabulary.swap_in()
    assert word_vectors(compact).shape == (8, 32)  # 2 3 5 7 9 11 40 and padding
    train(compact, [vocabulary.rows(row) for row in ROWS], int(vocabulary.position[0]))
    vocabulary.swap_out()

    expected, found = full.state_dict(), compact.state_dict()
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert torch.allclose(values, found[name], atol=5e-5), name
    moved = (word_vectors(compact) - first_words).abs().amax(dim=1) > 1e-4
    assert moved.nonzero().flatten().tolist() == [2, 3, 5, 7, 9, 11, 40]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "deberta-v2", "modernbert", "t5", "llama"])
def test_the_small_table_gives_the_logits_of_the_whole_one(untrained: Callable[..., Trained], kind: str) -> None:
    """XLM-R numbers its positions by where padding's id (1) is not: no other word may take that id."""
    made = untrained(kind)
    engine = TorchEngine(made.network, bfloat16=False)
    expected = engine.logits(ROWS, made.pad_id)
    vocabulary = CompactVocabulary(made.network.encoder, {i for row in ROWS for i in row}, made.pad_id)
    vocabulary.swap_in()
    found = engine.logits([vocabulary.rows(row) for row in ROWS], int(vocabulary.position[made.pad_id]))
    assert found == pytest.approx(expected, abs=1e-5)
    vocabulary.swap_out()
    assert engine.logits(ROWS, made.pad_id) == pytest.approx(expected, abs=1e-6)


def test_a_token_outside_the_table_has_no_row(tiny_backbone: Path) -> None:
    encoder = new_network(resolve_backbone(str(tiny_backbone)), CONFIG, 3, seed=0).encoder
    vocabulary = CompactVocabulary(encoder, [7, 5, 7], 0)
    assert vocabulary.rows([0, 7, 5]) == [0, 2, 1]
    assert vocabulary.position[6] == -1


class _Words(nn.Module):
    def __init__(self, words: np.ndarray) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(torch.from_numpy(words))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words


def test_static_vectors_are_the_principal_components() -> None:
    rng = np.random.default_rng(0)
    words = (rng.normal(size=(60, 6)) * [1, 9, 4, 2, 0.5, 0.1] + 3).astype(np.float32)
    found = static_vectors(_Words(words), dimensions=3).astype(np.float64)  # type: ignore[arg-type]
    assert found.shape == (60, 3)
    assert np.linalg.norm(found, axis=1).mean() == pytest.approx(1.0, abs=1e-3)
    centred = words.astype(np.float64) - words.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * spread)[:, :3]
    expected /= np.linalg.norm(expected, axis=1).mean()
    signs = np.sign((found * expected).sum(axis=0))
    assert np.abs(found - expected * signs).max() < 5e-3  # float16
