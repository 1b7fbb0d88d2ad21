"""The trained head cut in three for serving: what only the item says, what only the query says, what the pair says.

The first layer is linear in [q, i, |q - i|, q i, cosine, features]. The item's part of it, W_i i + W_f f over the features
of kind item, is a vector of H numbers that the store keeps. q i and the cosine are linear in i once the query is known, so
both are one matrix a request, applied to i. What is left for each pair is |q - i| and the features of the pair.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pertinent.features.declare import FeatureSpec
from pertinent.student.network import StudentHead


class ItemHalf(nn.Module):
    """items (B, d), features (B, F) -> halves (B, H), all float32; of the features, those of kind item count."""

    def __init__(self, head: StudentHead, specs: tuple[FeatureSpec, ...]) -> None:
        super().__init__()
        first = _FirstLayer(head, specs)
        self.head, self.columns = first.head, first.item_columns
        self.weight = nn.Parameter(torch.cat([first.item, first.features[:, self.columns]], dim=1))

    def forward(self, items: Tensor, features: Tensor) -> Tensor:
        own = self.head.standardise(features)[:, self.columns]
        return torch.cat([items, own], dim=1) @ self.weight.T


class PairNetwork(nn.Module):
    """One query (1, d), items (B, d + H) with their halves, features (B, F) -> probabilities (B, n).

    items may be float16.
    """

    def __init__(self, head: StudentHead, specs: tuple[FeatureSpec, ...], temperature: float) -> None:
        super().__init__()
        first = _FirstLayer(head, specs)
        self.head, self.columns, self.temperature = first.head, first.pair_columns, temperature
        self.query = nn.Parameter(first.query)
        self.product = nn.Parameter(first.product + first.cosine[:, None])  # of q i: the cosine is the sum of it
        self.bias = nn.Parameter(first.bias)
        self.pair = nn.Parameter(torch.cat([first.difference, first.features[:, self.columns]], dim=1))

    def forward(self, query: Tensor, items: Tensor, features: Tensor) -> Tensor:
        dimensions = query.shape[1]
        items = items.float()
        vectors, halves = items[:, :dimensions], items[:, dimensions:]
        own = self.head.standardise(features)[:, self.columns]
        pair = torch.cat([(query - vectors).abs(), own], dim=1) @ self.pair.T
        hidden = halves + pair + vectors @ (self.product * query).T + (query @ self.query.T + self.bias)
        logits = self.head.layers[1:](hidden)
        return torch.softmax(logits / self.temperature, dim=1)


class _FirstLayer:
    """The blocks of the first layer's weight, with the factors that `StudentHead.forward` puts before each."""

    def __init__(self, head: StudentHead, specs: tuple[FeatureSpec, ...]) -> None:
        self.head = copy.deepcopy(head).eval()
        layer = self.head.layers[0]
        assert isinstance(layer, nn.Linear)
        weight = layer.weight.detach()
        dimensions = (weight.shape[1] - 1 - len(specs)) // 4
        assert weight.shape[1] == 4 * dimensions + 1 + len(specs), "StudentHead.forward has other inputs now"
        root = dimensions**0.5
        parts = torch.split(weight, [dimensions] * 4 + [1, len(specs)], dim=1)
        self.query, self.item, self.difference = (part * root for part in parts[:3])
        self.product, self.cosine, self.features = parts[3] * root * root, parts[4][:, 0] * 4.0, parts[5]
        self.bias = layer.bias.detach()
        self.item_columns = [k for k, spec in enumerate(specs) if spec.kind == "item"]
        self.pair_columns = [k for k, spec in enumerate(specs) if spec.kind != "item"]
