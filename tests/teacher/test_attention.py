from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pertinent.teacher.attention import SHORT_ATTENTION, short_attention, use_short_attention
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.saving import Trained


def random_rows(lengths: list[int]) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(4, 120, size=length).tolist() for length in lengths]


def test_attention_by_hand() -> None:
    # One head of width 1, scale 1: query 1 sees keys 0 and log 3, so weights 1/4 and 3/4 of the values 8 and 4.
    query = torch.ones(1, 1, 2, 1)
    key = torch.tensor([0.0, math.log(3)]).view(1, 1, 2, 1)
    value = torch.tensor([8.0, 4.0]).view(1, 1, 2, 1)
    found, weights = short_attention(torch.nn.Identity(), query, key, value, None, scaling=1.0)
    assert weights is None
    assert found.shape == (1, 2, 1, 1)
    torch.testing.assert_close(found.flatten(), torch.tensor([5.0, 5.0]))


@pytest.mark.parametrize("tokens", [1, 40, 128, 129, 200])
def test_attention_is_torchs_own_at_any_length(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    query, key, value = (torch.randn(3, 4, tokens, 8, generator=generator) for _ in range(3))
    mask = torch.zeros(3, 1, tokens, tokens)
    mask[1, :, :, tokens // 2 + 1 :] = torch.finfo(torch.float32).min
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.5)
    found, _ = short_attention(torch.nn.Identity(), query, key, value, mask, scaling=0.5)
    torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("bert", True), ("xlm-roberta", True), ("modernbert", True), ("t5", False), ("deberta-v2", False)],
)
def test_encoders_give_the_same_logits_with_it(untrained: Callable[..., Trained], kind: str, taken: bool) -> None:
    network, rows = untrained(kind).network.eval(), random_rows([3, 17, 17, 40])
    expected = TorchEngine(network, bfloat16=False).logits(rows, 0)
    assert use_short_attention(network.encoder) is taken
    assert (network.encoder.config._attn_implementation == SHORT_ATTENTION) is taken
    np.testing.assert_allclose(TorchEngine(network, bfloat16=False).logits(rows, 0), expected, atol=1e-5)
