"""Pairs that the log does not show: BM25 and embedding neighbours of the drawn queries, and random items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.errors import ConfigError
from pertinent.features.encoder import STATIC_FILES, TOKEN_VECTORS, Encoder, StaticEncoder
from pertinent.labelling.sample import bm25_ranked
from pertinent.progress import progress

_QUERIES = 2048  # ranked at a time: bounds memory
_STREAM = {"bm25": 1, "embedding": 2, "random": 3}
_SCHEMA = {"query": pl.String, "item_id": pl.String, "language": pl.String}


def load_vectors(folder: Path | None) -> StaticEncoder:
    """The static encoder of a folder with tokenizer.json and token_vectors.npy, as a teacher's is. Raises ConfigError."""
    if folder is None:
        raise ConfigError("shares.embedding: expected a folder with token vectors (--vectors: a teacher's), found none")
    for name in STATIC_FILES:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder / name}: no such file (--vectors: expected a teacher's folder)")
    vectors = np.load(folder / TOKEN_VECTORS).astype(np.float32)
    return StaticEncoder(Tokenizer.from_file(str(folder / "tokenizer.json")), vectors)


def neighbour_pairs(
    source: str,
    queries: pl.DataFrame,
    items: pl.DataFrame,
    known: pl.DataFrame,
    n: int,
    *,
    depth: int,
    seed: int,
    encoder: Encoder | None = None,
) -> pl.DataFrame:
    """n pairs (query, item_id, language) of ``source``, as even over the queries as can be; fewer where there are not.

    source: bm25, embedding or random. queries: query, language, sorted by query. items: item_id, text.
    known: query, item_id of pairs that are drawn or judged already. depth: ranks that neighbours are drawn from.
    """
    if n == 0 or not queries.height:
        return pl.DataFrame(schema=_SCHEMA)
    depth = min(depth, items.height)
    rng = np.random.default_rng((seed, _STREAM[source]))
    ids = items["item_id"]
    parts = []
    with progress(f"label sample: {source}", queries.height, "queries") as bar:
        for block, ranked, found in _ranked(source, queries, items, depth, rng, encoder):
            # Every candidate with a draw: a query's k-th is its k-th by draw, once the known ones are gone.
            draws = rng.random(ranked.shape)
            rows = np.repeat(np.arange(block.height), ranked.shape[1])
            table = block.select("query", "language")[rows].with_columns(item_id=ids.gather(ranked.ravel()))
            table = table.with_columns(draw=pl.Series(draws.ravel())).filter(pl.Series(found.ravel()))
            table = table.unique(["query", "item_id"], keep="first", maintain_order=True)
            table = table.join(known, on=["query", "item_id"], how="anti", maintain_order="left").sort("query", "draw")
            turn = pl.int_range(pl.len()).over("query").alias("turn")
            parts.append(table.with_columns(turn))
            bar.advance(block.height)
    drawn = pl.concat(parts).sort("turn", "draw", "query", "item_id").head(n)
    return drawn.select(*_SCHEMA).sort("query", "item_id")


def _ranked(
    source: str,
    queries: pl.DataFrame,
    items: pl.DataFrame,
    depth: int,
    rng: np.random.Generator,
    encoder: Encoder | None,
) -> Iterator[tuple[pl.DataFrame, NDArray[np.int64], NDArray[np.bool_]]]:
    """Block by block: the queries, their candidates' rows (Q, depth), and which of these are candidates indeed."""
    blocks = [queries.slice(start, _QUERIES) for start in range(0, queries.height, _QUERIES)]
    if source == "random":
        for block in blocks:
            rows = rng.integers(0, items.height, (block.height, depth))
            yield block, rows, np.ones(rows.shape, dtype=np.bool_)
    elif source == "bm25":
        rank = bm25_ranked(items["text"].to_list(), depth)
        for block in blocks:
            yield block, *rank(block["query"].to_list())
    else:
        assert encoder is not None, "an embedding source needs its encoder"
        vectors = encoder.encode(items["text"].to_list())
        for block in blocks:
            near = encoder.encode_queries(block["query"].to_list()) @ vectors.T
            rows = np.argsort(-near, axis=1, kind="stable")[:, :depth]
            # A text without a known token has no direction, and so no neighbours.
            yield block, rows, np.take_along_axis(near, rows, axis=1) != 0.0
