from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForTextEncoding

from pertinent.teacher.backbones import load_backbone, resolve_backbone
from pertinent.teacher.cross_encoder import CrossEncoderConfig, encoder_class, pool
from pertinent.teacher.heads import cross_entropy
from pertinent.teacher.pairs import pad_batch
from pertinent.teacher.saving import Trained

KINDS = ["bert", "xlm-roberta", "deberta-v2", "modernbert", "t5", "llama"]
STATES = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [1e6, 1e6]], [[5.0, 0.0], [6.0, 0.0], [10.0, 3.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_pooling_is_the_first_state_the_mean_or_the_last_before_padding() -> None:
    assert pool(STATES, MASK, "first").tolist() == [[1, 2], [5, 0]]
    assert pool(STATES, MASK, "mean").tolist() == [[2, 3], [7, 1]]
    assert pool(STATES, MASK, "last").tolist() == [[3, 4], [10, 3]]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_heads_of_the_pooled_states_of_the_backbone(
    tiny_folder: Callable[[str], Path], untrained: Callable[..., Trained], kind: str
) -> None:
    """Against transformers' own loading of the folder, and a head written out."""
    network = untrained(kind, pooling="last").network.eval()
    auto = AutoModelForTextEncoding if kind == "t5" else AutoModel
    encoder = auto.from_pretrained(tiny_folder(kind), dtype=torch.float32).eval()
    ids = torch.tensor([[2, 5, 9, 3, 17, 20, 3]])
    with torch.inference_mode():
        found = network(ids, torch.ones_like(ids)).logits
        state = encoder(input_ids=ids).last_hidden_state[:, -1]
        first, last = network.head[0], network.head[2]
        hidden = torch.nn.functional.gelu(state @ first.weight.T + first.bias)
        expected = hidden @ last.weight.T + last.bias
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("head", ["softmax", "coral", "corn"])
def test_the_loss_is_the_heads_own(untrained: Callable[..., Trained], head: Any) -> None:
    network = untrained(head=head).network
    ids, mask = pad_batch([[2, 5, 3], [2, 6, 7, 3]], 0)
    targets = torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    weights = torch.tensor([1.0, 2.0])
    out = network(ids, mask, targets, weights)
    assert out.loss.item() == pytest.approx(cross_entropy(head, out.logits, targets, weights).item(), rel=1e-6)
    assert network(ids, mask).loss is None


def test_logits_are_float32_under_half_precision(untrained: Callable[..., Trained]) -> None:
    network = untrained().network.eval()
    ids, mask = pad_batch([[2, 5, 3], [2, 6, 7, 3]], 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = network.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        found = network(ids, mask).logits
    assert found.dtype == torch.float32
    expected = network.head(pool(states, mask, "mean").float())
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_config_names_the_grades_as_they_are_shown(tiny_backbone: Path) -> None:
    encoder = load_backbone(resolve_backbone(str(tiny_backbone))).config
    config = CrossEncoderConfig.of(encoder, "first", "corn", 5)
    assert config.id2label == {0: "L1", 1: "L2", 2: "L3", 3: "L4", 4: "L5"}
    assert config.label2id["L5"] == 4
    assert (config.n_grades, config.pooling, config.head) == (5, "first", "corn")
    again = CrossEncoderConfig.from_dict(config.to_dict())
    assert (again.n_grades, again.pooling, again.head) == (5, "first", "corn")
    assert type(again.encoder) is type(encoder)


def test_nothing_is_drawn_that_the_network_does_not_read(untrained: Callable[..., Trained]) -> None:
    # BERT's pooler, T5's decoder, Llama's language head.
    for kind in KINDS:
        names = untrained(kind).network.state_dict()
        assert not [name for name in names if "pooler" in name or "decoder." in name or "lm_head" in name], kind


def test_t5_gives_its_encoder(tiny_folder: Callable[[str], Path]) -> None:
    backbone = load_backbone(resolve_backbone(str(tiny_folder("t5"))))
    assert encoder_class(backbone.config)[0] is AutoModelForTextEncoding
    assert type(backbone).__name__ == "T5EncoderModel"
