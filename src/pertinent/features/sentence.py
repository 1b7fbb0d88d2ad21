"""The sentence encoder: a transformer run by onnxruntime, then a projection. Each text alone, queries from a cache.

A text is run alone because 8-bit arithmetic scales activations over the batch: so a vector is the same whatever was asked
beside it, in training as when served.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.features.session import open_session
from pertinent.files import read_json

GRAPH, ABOUT, TOKENIZER = "encoder.onnx", "encoder.json", "tokenizer.json"
CACHED_QUERIES = 10_000  # vectors of 64 numbers: 6.4 MB with short queries as keys, by tracemalloc


@dataclass(frozen=True)
class SentenceGraph:
    """An exported transformer: text -> unit vector of ``width`` numbers. Prefixes stand before a query and an item text.

    folder: where it was opened.
    """

    folder: Path
    tokenizer: Tokenizer
    session: Any  # onnxruntime.InferenceSession
    query_prefix: str
    text_prefix: str
    max_tokens: int
    width: int

    @classmethod
    def open(cls, folder: Path) -> SentenceGraph:
        """The folder's encoder.onnx, encoder.json and tokenizer.json. Raises ModelError for a damaged graph."""
        about = read_json(folder / ABOUT)
        session = open_session(folder / GRAPH)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(about["max_tokens"])
        prefixes = about["query_prefix"], about["text_prefix"]
        return cls(folder, tokenizer, session, *prefixes, about["max_tokens"], about["width"])

    def queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32 unit vectors of queries; zeros for a text without tokens."""
        return self._run([self.query_prefix + query for query in queries])

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32 unit vectors of item texts."""
        return self._run([self.text_prefix + text for text in texts])

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            ids = self.tokenizer.encode(text).ids
            if ids:
                feeds = {"input_ids": np.array([ids], dtype=np.int64)}
                vectors[row] = self.session.run(["vector"], feeds)[0][0]
        return vectors


@dataclass(frozen=True)
class SentenceEncoder:
    """projection: (width, d) float32. Threads may share one: the cache of query vectors is locked."""

    graph: SentenceGraph
    projection: NDArray[np.float32]
    cached_queries: int = CACHED_QUERIES
    _cache: OrderedDict[str, NDArray[np.float32]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def dimensions(self) -> int:
        """d."""
        return int(self.projection.shape[1])

    def encode_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(N, d) float32 unit vectors; the least recently used of ``cached_queries`` queries is forgotten first."""
        return np.stack([self._query(query) for query in queries]) if queries else np.zeros((0, self.dimensions), "f4")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, d) float32 unit vectors of item texts."""
        return projected(self.graph.texts(texts), self.projection)

    def _query(self, query: str) -> NDArray[np.float32]:
        with self._lock:
            if (found := self._cache.get(query)) is not None:
                self._cache.move_to_end(query)
                return found
        # Outside the lock: two threads may run the same query once each, and none waits for another's.
        vector: NDArray[np.float32] = projected(self.graph.queries([query]), self.projection)[0]
        with self._lock:
            self._cache[query] = vector
            while len(self._cache) > self.cached_queries:
                self._cache.popitem(last=False)
        return vector


def projected(vectors: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) float32 unit vectors; row by row, for a matrix product's last bits depend on how many rows there are."""
    found = (
        np.stack([row @ projection for row in vectors]) if len(vectors) else np.zeros((0, projection.shape[1]), "f4")
    )
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (found / np.maximum(norms, np.float32(1e-6))).astype(np.float32)
    return unit
