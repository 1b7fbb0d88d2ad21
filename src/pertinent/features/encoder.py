"""The static encoder: a text is the weighted mean of its tokens' vectors. A table look-up, no transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.features.ragged import Ragged

TOKEN_VECTORS = "token_vectors.npy"
STATIC_FILES = ("tokenizer.json", TOKEN_VECTORS)  # what a StaticEncoder is made of, in a teacher's and a labels folder
MAX_TOKENS = 96  # of a query or an item text
_BLOCK_ROWS = 8192  # texts tokenised, and texts whose token vectors are gathered, at a time


class Encoder(Protocol):
    """Makes vectors of texts, in training and when served."""

    @property
    def dimensions(self) -> int:
        """d."""

    def encode_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(N, d) float32, of length 1 each or zeros."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same of item texts."""


@dataclass(frozen=True)
class StaticEncoder:
    """vectors: (vocabulary, d) float32 or float16, each already multiplied by its token's learned weight."""

    tokenizer: Tokenizer
    vectors: NDArray[np.floating]

    @property
    def dimensions(self) -> int:
        """d."""
        return int(self.vectors.shape[1])

    def tokenise(self, texts: Sequence[str]) -> Ragged:
        """Token ids of each text, cut at MAX_TOKENS."""
        return tokenise(self.tokenizer, texts)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, d) float32, of length 1 each; zeros for a text without tokens."""
        return mean_vectors(self.tokenise(texts), self.vectors)

    def encode_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """As `encode`: a query is a text."""
        return self.encode(queries)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> Ragged:
    """Token ids without special tokens, cut at MAX_TOKENS."""
    rows: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _BLOCK_ROWS):  # an encoding holds far more than its ids
        encodings = tokenizer.encode_batch(list(texts[start : start + _BLOCK_ROWS]), add_special_tokens=False)
        rows += [np.array(encoding.ids[:MAX_TOKENS], dtype=np.int32) for encoding in encodings]
    return Ragged.of(rows)


def mean_vectors(tokens: Ragged, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Sum of the token vectors of each row, scaled to length 1 (for a direction, sum and mean are the same).

    (N, d) float32. vectors: float32 or float16, which is summed as float32.
    """
    sums = np.zeros((len(tokens), vectors.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(tokens.lengths)
    for start in range(0, filled.size, _BLOCK_ROWS):
        rows = filled[start : start + _BLOCK_ROWS]
        first, end = tokens.starts[rows[0]], tokens.starts[rows[-1] + 1]
        gathered = vectors[tokens.values[first:end]].astype(np.float32, copy=False)
        sums[rows] = np.add.reduceat(gathered, tokens.starts[rows] - first, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: NDArray[np.float32] = sums / np.maximum(norms, np.float32(1e-6))
    return unit
