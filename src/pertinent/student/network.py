"""The student network in torch: token vectors, their interactions, and a feed-forward network to n grades."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pertinent.features.ragged import Ragged

_LEAST_DEVIATION = 1e-4  # of a feature over the training pairs


class StudentHead(nn.Module):
    """Vectors and features -> grade logits; the part that is exported.

    forward: query (1 or B, d), items (B, d), features (B, F), all float32 -> logits (B, n).
    The features are standardised inside, with the training set's mean and deviation.
    """

    def __init__(
        self, dimensions: int, mean: NDArray[np.float32], std: NDArray[np.float32], hidden: tuple[int, ...],
        n_grades: int, dropout: float, feature_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.from_numpy(mean))
        # A feature that never moved in training has taught its weights nothing: it counts for nothing when served.
        moved = std > _LEAST_DEVIATION
        scale = np.where(moved, 1.0 / np.maximum(std, _LEAST_DEVIATION), 0.0).astype(np.float32)
        self.register_buffer("scale", torch.from_numpy(scale))
        self.vector_dropout = nn.Dropout(dropout)
        self.feature_dropout = feature_dropout
        width = 4 * dimensions + 1 + mean.size
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_grades))

    def leave_out_vectors(self) -> None:
        """Nothing of the vectors counts, now or after training: their weights of the first layer are 0 and stay so."""
        layer = self.layers[0]
        assert isinstance(layer, nn.Linear)
        kept = torch.zeros_like(layer.weight)
        kept[:, kept.shape[1] - self.mean.numel() :] = 1.0
        with torch.no_grad():
            layer.weight *= kept
        layer.weight.register_hook(lambda gradient: gradient * kept)  # type: ignore[no-untyped-call]

    def standardise(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, F): mean 0 and deviation 1 over the training pairs, cut at 5 deviations."""
        return ((features - self.mean) * self.scale).clamp(-5.0, 5.0)

    def forward(self, query: Tensor, items: Tensor, features: Tensor) -> Tensor:
        query = query + torch.zeros_like(items)
        cosine = (query * items).sum(1, keepdim=True)
        # Unit vectors have entries of about 1/sqrt(d); scaled up, they weigh as much as a standardised feature.
        root = items.shape[1] ** 0.5
        vectors = torch.cat([query, items, (query - items).abs(), query * items * root], dim=1) * root
        standardised = self.standardise(features)
        if self.training and self.feature_dropout > 0:
            # Not scaled up: what is missing when served is at its mean too, and the others are as they are.
            standardised = standardised * (torch.rand_like(standardised) >= self.feature_dropout)
        logits: Tensor = self.layers(torch.cat([self.vector_dropout(vectors), cosine * 4.0, standardised], dim=1))
        return logits


class StaticTable(nn.Module):
    """Token vectors with a learned weight a token; a text is the normalised weighted sum of its tokens'.

    vectors: (V, d) float32, where to start from. weights: (V,) float32 > 0, where to start from.
    """

    def __init__(self, vectors: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.from_numpy(vectors.copy()))
        self.log_weights = nn.Parameter(torch.from_numpy(np.log(weights)))

    def forward(self, tokens: Tensor, starts: Tensor) -> Tensor:
        """tokens: (total,) int64; starts: (B,) int64 -> (B, d) unit vectors; zeros for an empty text."""
        weights = torch.exp(self.log_weights[tokens])
        sums = nn.functional.embedding_bag(tokens, self.vectors, starts, mode="sum", per_sample_weights=weights)
        norms = sums.norm(dim=1, keepdim=True).clamp_min(1e-6)
        unit: Tensor = sums / norms
        return unit

    def weighted(self) -> NDArray[np.float16]:
        """The served table: each vector times its weight, rounded as it is stored: (V, d) float16."""
        with torch.no_grad():
            table: NDArray[np.float32] = (self.vectors * torch.exp(self.log_weights)[:, None]).numpy()
        return table.astype(np.float16)


def bags(tokens: Ragged) -> tuple[Tensor, Tensor]:
    """A Ragged as the (tokens, starts) that StaticTable reads, both int64."""
    return torch.from_numpy(tokens.values.astype(np.int64)), torch.from_numpy(tokens.starts[:-1].copy())
