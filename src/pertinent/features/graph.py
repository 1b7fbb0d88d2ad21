"""Item and term vectors from co-engagement: a truncated SVD of items against the queries and boards that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from pertinent.errors import ConfigError
from pertinent.features.corpus import CorpusStatistics
from pertinent.features.side import Graph
from pertinent.features.terms import terms_of
from pertinent.files import read_parquet
from pertinent.text.sources import SERVED


def learn_graph(
    folders: Sequence[Path], ids: Sequence[str], statistics: CorpusStatistics, dimensions: int, n_folds: int
) -> Graph:
    """Factorise the engaged queries and boards of fields.parquet in ``folders``, once a text version.

    A cell is log(1 + weight or count), each column scaled to length 1 so that no popular board stands for all. An
    item's vector is its row of U S, a column's its row of V; a term's is the sum over the columns whose text has it.
    Raises ConfigError where there is nothing to factorise.
    """
    edges = pl.concat([_edges(read_parquet(folder / "fields.parquet")) for folder in folders])
    place = pl.DataFrame({"item_id": ids}).with_row_index("item")
    edges = edges.join(place, on="item_id")
    items, rows, terms = {}, {}, {}
    for version in (SERVED, *range(n_folds)):
        used = _of_version(edges, version)
        if not used.height:
            raise ConfigError(
                f"student.features.graph: expected engaged queries or boards in version {version}, found none"
            )
        items[version], rows[version], terms[version] = _factorise(used, len(ids), statistics, dimensions)
    return Graph(items, rows, terms)


def _edges(fields: pl.DataFrame) -> pl.DataFrame:
    """item_id, text_version, source, text, weight; each row of ``fields`` also gives one with a null text.

    So a version whose list is empty is told from one that is not there, whatever explode makes of an empty list.
    """
    found = []
    for column, text, weight in (("engaged_queries", "query", "weight"), ("boards", "title", "count")):
        if column in fields.columns:
            lists = fields.select("item_id", "text_version", column).filter(pl.col(column).list.len() > 0)
            entries = pl.concat([lists.explode(column), fields.select("item_id", "text_version")], how="diagonal")
            parts = entries.select(
                "item_id",
                pl.col("text_version").cast(pl.Int8),
                pl.lit(column).alias("source"),
                pl.col(column).struct.field(text).alias("text"),
                pl.col(column).struct.field(weight).cast(pl.Float64).alias("weight"),
            )
            found.append(parts)
    if not found:
        raise ConfigError("student.features.graph: expected engaged_queries or boards in fields.parquet, found neither")
    return pl.concat(found)


def _of_version(edges: pl.DataFrame, version: int) -> pl.DataFrame:
    """The entries that a version reads: its own of an item and source, or the served ones where it has none."""
    own = edges.filter(pl.col("text_version") == version)
    served = edges.filter(pl.col("text_version") == SERVED).join(own, on=["item", "source"], how="anti")
    return pl.concat([own, served]).drop_nulls("text").filter(pl.col("weight") > 0).sort("source", "text", "item")


def _factorise(
    edges: pl.DataFrame, n_items: int, statistics: CorpusStatistics, dimensions: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    columns = edges.select("source", "text").unique(maintain_order=True).with_row_index("column")
    edges = edges.join(columns, on=["source", "text"], maintain_order="left")
    cells = np.log1p(edges["weight"].to_numpy())
    of_column = edges["column"].to_numpy().astype(np.int64)
    lengths = np.sqrt(np.bincount(of_column, cells**2, columns.height))
    matrix = csr_matrix((cells / lengths[of_column], (edges["item"].to_numpy(), of_column)), (n_items, columns.height))
    k = min(dimensions, min(matrix.shape) - 1)
    if k < 1:
        raise ConfigError(
            f"student.features.graph: expected at least 2 items and 2 queries or boards, found {matrix.shape}"
        )
    u, s, vt = svds(matrix, k=k, v0=np.ones(min(matrix.shape)))
    vectors = _unit(u * s)
    vectors[np.diff(matrix.indptr) == 0] = 0.0
    row_of = np.full(len(statistics.terms), -1, dtype=np.int32)
    holders = [(i, c) for c, text in enumerate(columns["text"]) for i in set(statistics.ids(terms_of(text))) if i >= 0]
    if not holders:
        return vectors, row_of, np.zeros((0, k), dtype=np.float32)
    pairs = np.array(holders, dtype=np.int64)
    used, place = np.unique(pairs[:, 0], return_inverse=True)
    row_of[used] = np.arange(used.size)
    sums = np.zeros((used.size, k))
    np.add.at(sums, place, vt.T[pairs[:, 1]])
    return vectors, row_of, _unit(sums)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(norms > 1e-9, vectors / np.maximum(norms, 1e-9), 0.0).astype(np.float32)
