"""The head cut in three gives what the whole head gives, whatever is stored in between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pertinent.features.declare import FeatureSpec
from pertinent.student.folding import ItemHalf, PairNetwork
from pertinent.student.network import StudentHead

KINDS = ("query-item", "item", "query", "item", "query-item")
SPECS = tuple(FeatureSpec(f"f{k}", kind, "test") for k, kind in enumerate(KINDS))  # type: ignore[arg-type]


def head_of(hidden: tuple[int, ...], seed: int) -> StudentHead:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=5).astype(np.float32), rng.uniform(0.5, 2, size=5).astype(np.float32)
    std[4] = 0.0  # a feature that never moved
    return StudentHead(6, mean, std, hidden, 3, dropout=0.5).eval()


@pytest.mark.parametrize("hidden", [(7,), (9, 4)])
def test_the_parts_together_are_the_head(hidden: tuple[int, ...]) -> None:
    head = head_of(hidden, seed=len(hidden))
    query, items, features = torch.randn(1, 6), torch.randn(20, 6), torch.randn(20, 5) * 9  # some beyond the cut
    expected = torch.softmax(head(query, items, features) / 1.7, dim=1)
    halves = ItemHalf(head, SPECS)(items, features)
    assert halves.shape == (20, hidden[0])
    found = PairNetwork(head, SPECS, 1.7)(query, torch.cat([items, halves], dim=1), features)
    assert (found - expected).abs().max() < 1e-5


def test_an_item_half_reads_features_of_the_item_alone_and_the_rest_reads_none_of_them() -> None:
    head = head_of((7,), seed=0)
    query, items, features = torch.randn(1, 6), torch.randn(4, 6), torch.randn(4, 5)
    halves = ItemHalf(head, SPECS)(items, features)
    network = PairNetwork(head, SPECS, 1.0)
    probs = network(query, torch.cat([items, halves], dim=1), features)
    for column, kind in enumerate(KINDS):
        changed = features.clone()
        changed[:, column] += 0.3
        moved_half = not torch.equal(ItemHalf(head, SPECS)(items, changed), halves)
        moved_rest = not torch.equal(network(query, torch.cat([items, halves], dim=1), changed), probs)
        assert (moved_half, moved_rest) == (kind == "item", kind != "item" and column != 4)


def test_a_head_of_another_shape_is_not_folded() -> None:
    with pytest.raises(AssertionError, match="other inputs"):
        ItemHalf(head_of((7,), seed=0), SPECS[:-1])
