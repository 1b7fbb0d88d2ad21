"""Vectors of queries and item texts while a student is trained: token vectors that it tunes, or a frozen encoder's, projected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from pertinent.errors import ConfigError
from pertinent.features.encoder import Encoder, StaticEncoder, mean_vectors
from pertinent.features.ragged import Ragged
from pertinent.features.sentence import SentenceEncoder, SentenceGraph, projected
from pertinent.files import atomic_path
from pertinent.progress import progress
from pertinent.student.config import StudentConfig
from pertinent.student.network import StaticTable, bags
from pertinent.student.prepare import Prepared

_SMOOTHING = 1e-3  # a token's first weight is a / (a + its frequency); Arora et al. 2017, section 3
_BLOCK_TEXTS = 1024  # run through a transformer between two files


class TextVectors(Protocol):
    """What the network learns and is judged on. Rows: of the label rows' distinct queries, of the catalogue's texts."""

    @property
    def module(self) -> nn.Module:
        """What is trained of them."""

    def queries(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, d) unit vectors, with gradients."""

    def items(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, d) unit vectors, with gradients."""

    def encoder(self) -> Encoder:
        """What is served."""

    def served_items(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, d) float32, what ``encoder`` gives of these texts."""

    def served_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(B, d) float32, what ``encoder`` gives of any queries."""


def first_vectors(file: Path, dimensions: int) -> NDArray[np.float32]:
    """(V, dimensions) float32: where the static encoder starts from. Raises ConfigError where the file has fewer."""
    vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    if vectors.shape[1] < dimensions:
        raise ConfigError(
            f"student.dimensions: expected at most the {vectors.shape[1]} of the teacher's token vectors, found {dimensions}"
        )
    return np.ascontiguousarray(vectors[:, :dimensions], dtype=np.float32)


@dataclass
class StaticVectors:
    """The table of the tokens in use, and which row of the full table each token has."""

    module: StaticTable
    start: NDArray[np.float32]  # (V, d) the vectors that the table started from
    position: NDArray[np.int64]  # (V,) row in the small table, -1 for a token not in use
    kept: NDArray[np.int64]
    tokenizer: Tokenizer
    query_tokens: Ragged
    item_tokens: Ragged

    @classmethod
    def of(cls, start: NDArray[np.float32], prepared: Prepared) -> StaticVectors:
        """Untrained. start: (V, d) float32."""
        query_tokens, item_tokens = prepared.query_tokens, prepared.catalogue.tokens
        used = np.concatenate([item_tokens.values, query_tokens.values])
        frequency = np.bincount(used, minlength=start.shape[0]) / max(used.size, 1)
        kept = np.flatnonzero(frequency)
        position = np.full(start.shape[0], -1, dtype=np.int64)
        position[kept] = np.arange(kept.size)
        weights = (_SMOOTHING / (_SMOOTHING + frequency[kept])).astype(np.float32)
        table = StaticTable(start[kept], weights)
        return cls(table, start, position, kept, prepared.tokenizer, query_tokens, item_tokens)

    def queries(self, rows: NDArray[np.int64]) -> Tensor:
        return self._of(self.query_tokens.take(rows))

    def items(self, rows: NDArray[np.int64]) -> Tensor:
        return self._of(self.item_tokens.take(rows))

    def full_table(self) -> NDArray[np.float16]:
        """(V, d) float16: trained rows where there are some, the first vectors (weight 1) elsewhere."""
        table = self.start.astype(np.float16)
        table[self.kept] = self.module.weighted()
        return table

    def encoder(self) -> StaticEncoder:
        return StaticEncoder(self.tokenizer, self.full_table())

    def served_items(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return mean_vectors(self.item_tokens.take(rows), self.full_table())

    def served_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        return self.encoder().encode_queries(queries)

    def _of(self, tokens: Ragged) -> Tensor:
        compact = Ragged(self.position[tokens.values].astype(np.int32), tokens.starts)
        found: Tensor = self.module(*bags(compact))
        return found


class _Projection(nn.Module):
    def __init__(self, weight: NDArray[np.float32]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight.copy()))

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors @ self.weight, dim=1)


@dataclass
class SentenceVectors:
    """A frozen encoder's vectors, computed once, and a projection to d numbers that is learned for both sides.

    It starts from the d directions in which the items differ most. of_queries: (Q, width), of_items: (rows, width) float32.
    """

    module: _Projection
    graph: SentenceGraph
    of_queries: NDArray[np.float32]
    of_items: NDArray[np.float32]
    vector_of: dict[str, NDArray[np.float32]]  # of other queries that were asked for: dev is judged every epoch

    @classmethod
    def of(cls, graph: SentenceGraph, config: StudentConfig, prepared: Prepared, folder: Path) -> SentenceVectors:
        """Untrained; the vectors lie in ``folder``, where a killed run's are taken up."""
        items = prepared.catalogue.texts.rows["text"].to_list()
        of_items = _all(items, graph.texts, graph.width, folder / "items", "items")
        of_queries = _all(prepared.queries, graph.queries, graph.width, folder / "queries", "queries")
        known = dict(zip(prepared.queries, of_queries, strict=True))
        start = principal_directions(of_items, config.dimensions)
        return cls(_Projection(start), graph, of_queries, of_items, known)

    def queries(self, rows: NDArray[np.int64]) -> Tensor:
        found: Tensor = self.module(torch.from_numpy(self.of_queries[rows]))
        return found

    def items(self, rows: NDArray[np.int64]) -> Tensor:
        found: Tensor = self.module(torch.from_numpy(self.of_items[rows]))
        return found

    def encoder(self) -> SentenceEncoder:
        return SentenceEncoder(self.graph, self._weight())

    def served_items(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return projected(self.of_items[rows], self._weight())

    def served_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        for query in queries:
            if query not in self.vector_of:
                self.vector_of[query] = self.graph.queries([query])[0]
        return projected(np.stack([self.vector_of[query] for query in queries]), self._weight())

    def _weight(self) -> NDArray[np.float32]:
        return self.module.weight.detach().numpy().copy()


def principal_directions(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """(width, dimensions) float32, orthonormal: the leading eigenvectors of the second moments of ``vectors``."""
    wide = vectors.astype(np.float64)
    _, found = np.linalg.eigh(wide.T @ wide)
    return np.ascontiguousarray(found[:, ::-1][:, :dimensions], dtype=np.float32)


def _all(texts: Sequence[str], run: Any, width: int, folder: Path, label: str) -> NDArray[np.float32]:
    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    with progress(f"student: embed {label}", len(texts), "texts") as bar:
        for start in range(0, len(texts), _BLOCK_TEXTS):
            file = folder / f"{start // _BLOCK_TEXTS:06d}.npy"
            part = texts[start : start + _BLOCK_TEXTS]
            if not file.exists():
                with atomic_path(file) as temporary, temporary.open("wb") as stream:
                    np.save(stream, run(part), allow_pickle=False)
            blocks.append(np.load(file, allow_pickle=False))
            bar.advance(len(part))
    return np.concatenate(blocks) if blocks else np.zeros((0, width), dtype=np.float32)
