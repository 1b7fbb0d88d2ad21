from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import modeling_utils

from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.rows import TrainingRows
from pertinent.teacher.saving import Trained
from pertinent.teacher.train import new_network
from pertinent.teacher.trainer import (
    LengthGrouped,
    _Average,
    _Pairs,
    layer_depth,
    parameter_groups,
    train_network,
)


def drawn_lengths(n_rows: int, epochs: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(5, 90, size=(epochs, n_rows))


def order_of(lengths: np.ndarray[Any, Any], batch_size: int = 8, seed: int = 5) -> list[int]:
    epochs, n_rows = lengths.shape
    sampler = LengthGrouped(lambda epoch, pair: int(lengths[epoch, pair]), n_rows, batch_size, epochs, seed)
    order = list(sampler)
    assert len(sampler) == len(order)
    return order


@pytest.mark.parametrize("n_rows", [1, 7, 8, 100, 1500])
def test_every_row_comes_once_an_epoch_in_an_order_of_the_seed(n_rows: int) -> None:
    lengths = drawn_lengths(n_rows, epochs=3)
    order = order_of(lengths)
    for epoch in range(3):
        assert sorted(order[epoch * n_rows : (epoch + 1) * n_rows]) == list(range(epoch * n_rows, (epoch + 1) * n_rows))
    assert order == order_of(lengths)
    if n_rows > 8:  # one batch is in order of length, whatever the seed
        assert order != order_of(lengths, seed=6)
        epochs = np.array(order).reshape(3, n_rows) % n_rows
        assert (epochs[0] != epochs[1]).any()


def test_batches_hold_rows_of_like_length() -> None:
    lengths = drawn_lengths(512)
    batches = lengths[0][order_of(lengths)].reshape(-1, 8)
    assert np.ptp(batches, axis=1).max() <= 15
    assert (np.diff(batches.max(axis=1)) < 0).any()  # and the batches are in random order


@pytest.mark.parametrize("n_rows", [509, 515])
def test_batches_stay_of_like_length_after_an_epoch_that_ends_within_one(n_rows: int) -> None:
    lengths = drawn_lengths(n_rows, epochs=4)
    flat = lengths.ravel()[order_of(lengths)]
    spreads = [np.ptp(flat[start : start + 8]) for start in range(0, flat.size, 8)]
    # At most the batch at each joint and the short one before it mix lengths.
    assert sum(spread > 15 for spread in spreads) <= 2 * 4


def test_lengths_are_those_of_the_epoch(tmp_path: Path) -> None:
    # Augmentation turns the lengths round in the second epoch: its batches follow the new ones.
    lengths = np.stack([np.arange(64), np.arange(64)[::-1]])
    batches = lengths.ravel()[order_of(lengths)].reshape(-1, 8)
    assert np.ptp(batches, axis=1).tolist() == [7] * 16


def test_a_pair_is_read_in_its_epochs_form() -> None:
    rows = TrainingRows(
        ids=[[1], [2], [3], [4]],
        target_probs=np.eye(2, dtype=np.float32),
        weights=np.array([0.5, 1.5], dtype=np.float32),
        names=["a", "b"],
        n_cut=0,
    )
    pairs = _Pairs(rows, epochs=2)
    assert len(pairs) == 4
    found = [pairs[number] for number in range(4)]
    assert [row["ids"] for row in found] == [[1], [2], [3], [4]]
    assert [row["pair"] for row in found] == [0, 1, 0, 1]
    assert [row["weight"] for row in found] == [0.5, 1.5, 0.5, 1.5]
    assert found[3]["target_probs"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("encoder.embeddings.word_embeddings.weight", 0),  # BERT
        ("encoder.embeddings.LayerNorm.bias", 0),
        ("encoder.encoder.layer.0.attention.self.query.weight", 1),
        ("encoder.encoder.layer.11.output.dense.bias", 12),
        ("encoder.shared.weight", 0),  # T5
        ("encoder.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 1),
        ("encoder.encoder.block.11.layer.1.DenseReluDense.wo.weight", 12),
        ("encoder.encoder.final_layer_norm.weight", 12),
        ("encoder.embed_tokens.weight", 0),  # Llama
        ("encoder.layers.3.mlp.up_proj.weight", 4),
        ("encoder.norm.weight", 12),
        ("encoder.embeddings.tok_embeddings.weight", 0),  # ModernBERT
        ("encoder.final_norm.weight", 12),
        ("encoder.encoder.rel_embeddings.weight", 0),  # DeBERTa
        ("head.0.weight", 13),
        ("head.2.bias", 13),
        ("head.3.steps", 13),
    ],
)
def test_depth_counts_from_the_word_vectors_to_the_head(name: str, depth: int) -> None:
    assert layer_depth(name, layers=12) == depth


def rates(groups: Iterable[dict[str, Any]], model: nn.Module) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of every trained parameter by name; each is in one group."""
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = {name: found[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert len(named) == len(found) == sum(len(group["params"]) for group in groups)
    return named


def test_learning_rates_fall_by_the_decay_a_layer(tiny_backbone: Path) -> None:
    config = TeacherConfig(learning_rate=0.8, layer_decay=0.5, weight_decay=0.1)
    model = new_network(resolve_backbone(str(tiny_backbone)), config, 3, seed=0)
    # Head at the full rate, then halved for each of two layers and once more for the word vectors.
    expected = {
        "head.2.weight": (0.8, 0.1),
        "head.0.bias": (0.8, 0.0),
        "encoder.encoder.layer.1.output.dense.weight": (0.4, 0.1),
        "encoder.encoder.layer.0.attention.self.key.weight": (0.2, 0.1),
        "encoder.encoder.layer.0.output.LayerNorm.weight": (0.2, 0.0),
        "encoder.embeddings.word_embeddings.weight": (0.1, 0.0),
        "encoder.embeddings.position_embeddings.weight": (0.1, 0.0),
    }
    found = rates(parameter_groups(model, model, config), model)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("kind", ["xlm-roberta", "deberta-v2", "modernbert", "t5", "llama"])
def test_word_vectors_and_norms_are_never_decayed(tiny_folder: Callable[[str], Path], kind: str) -> None:
    config = TeacherConfig(head="coral")
    model = new_network(resolve_backbone(str(tiny_folder(kind))), config, 3, seed=0)
    found = rates(parameter_groups(model, model, config), model)
    words = model.get_input_embeddings().weight
    for name, parameter in model.named_parameters():
        assert (found[name][1] == 0) == (parameter.ndim < 2 or parameter is words or "embed" in name), name


def test_adapters_all_learn_at_the_heads_rate(untrained: Callable[..., Trained], config_of: Any) -> None:
    config = config_of(tuning="lora", learning_rate=0.8, layer_decay=0.5, weight_decay=0.1)
    made = untrained(tuning="lora")
    assert made.adapters is not None
    found = rates(parameter_groups(made.adapters, made.network, config), made.adapters)
    assert {rate for rate, _ in found.values()} == {0.8}


def test_an_average_follows_the_weights_as_worked_by_hand(tmp_path: Path) -> None:
    model = nn.Linear(1, 1, bias=False)

    def put(value: float) -> None:
        nn.init.constant_(model.weight, value)

    put(0.0)
    average = _Average(model, 0.25)
    put(1.0)
    average.update(model)  # decay min(0.25, 2/11) = 2/11: 0 * 2/11 + 1 * 9/11
    put(2.0)
    average.update(model)  # decay min(0.25, 3/12) = 1/4: 9/11 / 4 + 2 * 3/4
    expected = 9 / 44 + 1.5
    average.swap(model)
    assert model.weight.item() == pytest.approx(expected)
    average.swap(model)
    assert model.weight.item() == 2.0
    # It continues after a stop as if there had been none.
    average.save(tmp_path / "average.safetensors")
    put(0.0)
    again = _Average(model, 0.25)
    again.load(tmp_path / "average.safetensors")
    put(3.0)
    for one in (average, again):
        one.update(model)
        held = model.weight.item()
        one.swap(model)
        assert model.weight.item() == pytest.approx(expected / 4 + 3 * 3 / 4)
        one.swap(model)
        assert model.weight.item() == held
    again.copy_to(model)
    assert model.weight.item() == pytest.approx(expected / 4 + 3 * 3 / 4)


def rows_of(n_pairs: int, weights: np.ndarray[Any, Any] | None = None) -> TrainingRows:
    rng = np.random.default_rng(0)
    ids = [[2, *rng.integers(4, 100, size=length).tolist(), 3] for length in rng.integers(2, 20, size=n_pairs)]
    targets = np.eye(3, dtype=np.float32)[rng.integers(3, size=n_pairs)]
    return TrainingRows(ids, targets, weights, [f"query {i} -> item" for i in range(n_pairs)], 0)


@pytest.fixture
def weights_after(
    tiny_folder: Callable[[str], Path], config_of: Callable[..., TeacherConfig], tmp_path: Path
) -> Callable[..., dict[str, torch.Tensor]]:
    """Weights of a tiny model after a short training."""

    def trained(kind: str = "bert", rows: TrainingRows | None = None, **changes: Any) -> dict[str, torch.Tensor]:
        config = config_of(**changes)
        network = new_network(resolve_backbone(str(tiny_folder(kind))), config, 3, seed=0)
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        out.mkdir()

        def judge() -> dict[str, float]:
            return {"dev_loss": 0.0, "dev_auroc": 0.0}

        train_network(network, network, rows or rows_of(40), config, 0, out, seed=1, judge=judge)
        return {name: value.detach().clone() for name, value in network.state_dict().items()}

    return trained


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


Weights = Callable[..., dict[str, torch.Tensor]]


@pytest.mark.parametrize("n_pairs", [40, 36])
def test_gradients_of_smaller_batches_add_up_to_those_of_a_batch(
    weights_after: Weights, monkeypatch: pytest.MonkeyPatch, n_pairs: int
) -> None:
    norms: list[float] = []
    clip = Accelerator.clip_grad_norm_

    def noted(*arguments: Any, **named: Any) -> Any:
        norm = clip(*arguments, **named)
        norms.append(float(norm))
        return norm

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", noted)
    rows = rows_of(n_pairs)
    whole = weights_after(rows=rows, epochs=2)
    n_steps = len(norms)
    parts = weights_after(rows=rows, epochs=2, device_batch_size=2)
    assert n_steps == len(norms) - n_steps == n_pairs * 2 // 8
    assert norms[n_steps:] == pytest.approx(norms[:n_steps], rel=1e-3)
    assert largest_difference(whole, parts) < 2e-4
    assert largest_difference(whole, weights_after(rows=rows, epochs=2, batch_size=4)) > 1e-3


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_gradient_checkpointing_changes_no_weight(
    weights_after: Weights, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    plain = weights_after(kind, epochs=1)
    n_calls = 0
    checkpoint = modeling_utils.checkpoint

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        return checkpoint(*arguments, **named)

    monkeypatch.setattr(modeling_utils, "checkpoint", counted)
    found = weights_after(kind, epochs=1, gradient_checkpointing=True)
    assert n_calls == 2 * 5  # layers, steps
    assert largest_difference(plain, found) < 1e-5


def test_a_pair_of_weight_zero_teaches_nothing(weights_after: Weights) -> None:
    weights = np.ones(40, dtype=np.float32)
    weights[::4] = 0.0
    rows = rows_of(40, weights)
    changed = rows_of(40, weights)
    changed.target_probs[::4] = changed.target_probs[::4, ::-1]
    assert largest_difference(weights_after(rows=rows), weights_after(rows=changed)) < 1e-6
    unweighted = [TrainingRows(part.ids, part.target_probs, None, part.names, 0) for part in (rows, changed)]
    assert largest_difference(weights_after(rows=unweighted[0]), weights_after(rows=unweighted[1])) > 1e-4


def test_an_average_of_decay_zero_is_the_last_weights_and_one_of_more_lags_behind(weights_after: Weights) -> None:
    last, nearly, smooth = weights_after(), weights_after(ema=1e-9), weights_after(ema=0.9)
    assert largest_difference(last, nearly) < 1e-6
    assert largest_difference(last, smooth) > 3e-4
