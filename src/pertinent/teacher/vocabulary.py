"""Train only the word vectors that occur: exact, and several times less work an optimiser step.

multilingual-e5-small keeps 82% of its weights in a table of 250,037 word vectors, of which a training set touches a
few thousand. A row that never occurs gets no gradient, and without weight decay AdamW leaves it as it was, so training
a table of the rows that occur and writing them back gives the same model as training the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

TOKEN_VECTORS = "token_vectors.npy"
STATIC_DIMENSIONS = 128


class CompactVocabulary:
    """Swaps an encoder's word vectors for the rows in use, and back.

    ids: token ids that may occur in training and dev batches.
    """

    def __init__(self, encoder: PreTrainedModel, ids: Iterable[int], pad_id: int) -> None:
        self._encoder = encoder
        self._full = encoder.get_input_embeddings()
        self._kept = np.unique(np.fromiter({*ids, pad_id}, dtype=np.int64))
        self.position: NDArray[np.int64] = np.full(self._full.num_embeddings, -1, dtype=np.int64)
        self.position[self._kept] = np.arange(self._kept.size)

    def swap_in(self) -> None:
        """Give the encoder the small table; batches must be mapped through `rows`."""
        rows = self._full.weight.detach()[torch.from_numpy(self._kept)].clone()
        self._encoder.set_input_embeddings(nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows))

    def swap_out(self) -> None:
        """Write the trained rows into the full table and give that back to the encoder."""
        trained = self._encoder.get_input_embeddings().weight.detach()
        with torch.no_grad():
            self._full.weight[torch.from_numpy(self._kept)] = trained.to(self._full.weight.dtype)
        self._encoder.set_input_embeddings(self._full)

    def rows(self, ids: list[int]) -> list[int]:
        """Positions in the small table of token ids of the full one."""
        return [int(position) for position in self.position[ids]]


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
