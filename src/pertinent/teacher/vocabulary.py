"""Train only the word vectors that occur: exact, and several times less work an optimiser step.

multilingual-e5-small keeps 82% of its weights in a table of 250,037 word vectors, of which a training set touches a
few thousand. A row that never occurs gets no gradient, and without weight decay AdamW leaves it as it was, so training
a table of the rows that occur and writing them back gives the same model as training the whole table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from pertinent.teacher.pairs import SegmentedRow

STATIC_DIMENSIONS = 128


class CompactVocabulary:
    """Swaps a language model's word vectors for the rows in use, and back.

    ids: token ids that may occur in training and dev batches.
    """

    def __init__(self, encoder: PreTrainedModel, ids: Iterable[int], pad_id: int) -> None:
        self._encoder = encoder
        self._full = encoder.get_input_embeddings()
        padding = position_padding(encoder)
        fixed = range(0 if padding is None else padding + 1)  # no other word may come to have padding's id
        self._kept = np.unique(np.fromiter({*ids, pad_id, *fixed}, dtype=np.int64))
        self.position: NDArray[np.int64] = np.full(self._full.num_embeddings, -1, dtype=np.int64)
        self.position[self._kept] = np.arange(self._kept.size)

    def swap_in(self) -> None:
        """Give the model the small table; batches must be mapped through `rows`."""
        # A copy of the same class: some models scale their word vectors in a class of their own.
        small = copy.copy(self._full)
        rows = self._full.weight.detach()[torch.from_numpy(self._kept)].clone()
        small._parameters = {"weight": nn.Parameter(rows)}
        small.num_embeddings = rows.shape[0]
        if small.padding_idx is not None:
            padding = int(self.position[small.padding_idx])
            small.padding_idx = padding if padding >= 0 else None
        self._encoder.set_input_embeddings(small)

    def swap_out(self) -> None:
        """Write the trained rows into the full table and give that back to the model; both must be on the CPU."""
        trained = self._encoder.get_input_embeddings().weight.detach()
        with torch.no_grad():
            self._full.weight[torch.from_numpy(self._kept)] = trained.to(self._full.weight.dtype)
        self._encoder.set_input_embeddings(self._full)

    def rows(self, ids: list[int]) -> list[int]:
        """Positions in the small table of token ids of the full one, in the row's own segments where it has any."""
        positions = [int(position) for position in self.position[ids]]
        return ids.with_ids(positions) if isinstance(ids, SegmentedRow) else positions


def position_padding(encoder: PreTrainedModel) -> int | None:
    """The token id by which RoBERTa's kin number positions, the first of which is the one after it; None for others."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.padding_idx
    return None


def static_vectors(encoder: PreTrainedModel, dimensions: int = STATIC_DIMENSIONS) -> NDArray[np.float16]:
    """The word vectors on their principal axes, most variance first, of mean length 1: (V, dimensions) float16.

    A student starts its token table from the first columns of this.
    """
    words = encoder.get_input_embeddings().weight.detach().float().cpu().numpy()
    centred = words - words.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    vectors = centred @ axes[:, ::-1][:, :dimensions]
    unit: NDArray[np.float16] = (vectors / np.linalg.norm(vectors, axis=1).mean()).astype(np.float16)
    return unit
