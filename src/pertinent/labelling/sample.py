"""Choose the pairs that the teacher labels: judged ones, log impressions, BM25 neighbours and random items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import bm25s
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.data.build import Dataset
from pertinent.data.splits import normalised
from pertinent.features.terms import terms_of
from pertinent.labelling.config import LabelsConfig

PAIR_SCHEMA = {"query": pl.String, "item_id": pl.String, "language": pl.String, "source": pl.String}


def sample_pairs(dataset: Dataset, texts: pl.DataFrame, config: LabelsConfig, seed: int) -> pl.DataFrame:
    """Distinct pairs (query, item_id, language, source) of training queries, at most config.max_pairs.

    texts: item_id, text of the text stage. source: judged, log, bm25 or random; a pair takes the first that has it.
    The same data and seed give the same pairs in the same order.
    """
    judged = dataset.judgments.filter(pl.col("split") == "train")
    known = judged.select("query", "item_id", "language", source=pl.lit("judged"))
    parts = [
        known,
        _log_pairs(dataset, config.log_pairs, seed),
        *_pool_pairs(judged, texts, config, seed),
    ]
    pairs = pl.concat([part.select(*PAIR_SCHEMA).cast(PAIR_SCHEMA) for part in parts])  # type: ignore[arg-type]
    pairs = pairs.unique(["query", "item_id"], keep="first", maintain_order=True)
    if not config.judged_pairs:
        pairs = pairs.filter(pl.col("source") != "judged")
    return pairs.head(config.max_pairs)


def _log_pairs(dataset: Dataset, n_pairs: int, seed: int) -> pl.DataFrame:
    """Distinct unjudged pairs of the log's training queries, as even over languages as the log allows.

    A query is its normalised text; a judged one is written as in the judgments, so that no other source repeats it.
    """
    if dataset.log is None or n_pairs == 0:
        return pl.DataFrame(schema=PAIR_SCHEMA)
    judged = dataset.judgments.select("query", "item_id", key=normalised(dataset.judgments["query"]))
    written = judged.select("key", judged_query="query").unique("key", keep="first", maintain_order=True)
    language = pl.col("language").drop_nulls().min()
    rows = dataset.log.filter(pl.col("split") == "train").group_by("query", "item_id")
    seen = rows.agg(pl.col("query_id").min(), language).collect()
    seen = seen.with_columns(key=normalised(seen["query"]))
    pairs = seen.group_by("key", "item_id").agg(pl.col("query_id", "query").min(), language)
    pairs = pairs.join(judged, on=["key", "item_id"], how="anti").join(written, on="key", how="left")
    pairs = pairs.with_columns(query=pl.coalesce("judged_query", "query"))
    pairs = pairs.filter(pl.col("item_id").is_in(dataset.items["item_id"].implode()))
    draw = [_draw(seed, query, item) for query, item in pairs.select("query_id", "item_id").iter_rows()]
    pairs = pairs.with_columns(draw=pl.Series(draw, dtype=pl.UInt64)).sort("draw")
    # The k-th pair of every language comes before the (k + 1)-th of any.
    turn = pl.int_range(pl.len()).over(pl.col("language").fill_null("und"))
    return pairs.with_columns(turn=turn, source=pl.lit("log")).sort("turn", "draw").head(n_pairs)


def _pool_pairs(
    judged: pl.DataFrame, texts: pl.DataFrame, config: LabelsConfig, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """BM25 neighbours and random items of each judged training query, the same number a query."""
    queries = judged.group_by("query_id").agg(pl.col("query").min(), pl.col("language").min()).sort("query_id")
    ids = texts["item_id"].to_numpy()
    empty = pl.DataFrame(schema=PAIR_SCHEMA)
    depth = min(config.pool_depth, ids.size)
    rng = np.random.default_rng((seed, 1))
    neighbours = randoms = empty
    if config.pool_per_query:
        ranked, found = bm25_ranked(texts["text"].to_list(), depth)(queries["query"].to_list())
        # An item that shares no word with the query is no neighbour: it is drawn last, and then left out.
        draws = np.where(found, rng.random((queries.height, depth)), 2.0)
        ranks = np.sort(np.argsort(draws, axis=1)[:, : min(config.pool_per_query, depth)], axis=1)
        pooled = _pairs_of(queries, ids[np.take_along_axis(ranked, ranks, axis=1)], "bm25")
        neighbours = pooled.filter(pl.Series(np.take_along_axis(found, ranks, axis=1).T.ravel()))
    if config.random_per_query:
        drawn = rng.integers(0, ids.size, (queries.height, config.random_per_query))
        randoms = _pairs_of(queries, ids[drawn], "random")
    return neighbours, randoms


def bm25_ranked(texts: list[str], depth: int) -> Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Index the items once; the function gives, of Q queries, the rows of their best items by BM25, both (Q, depth):

    the rows, best first, and whether each shares a word with the query.
    """
    retriever = bm25s.BM25(method="lucene")
    retriever.index([terms_of(text) or [""] for text in texts], show_progress=False)

    def rank(queries: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows, scores = retriever.retrieve([terms_of(query) or [""] for query in queries], k=depth, show_progress=False)
        return np.asarray(rows, dtype=np.int64), np.asarray(scores) > 0

    return rank


def _pairs_of(queries: pl.DataFrame, items: NDArray[np.object_], source: str) -> pl.DataFrame:
    """Rank by rank, so that cutting the table's end takes the same share from every query."""
    columns = [
        queries.select("query", "language").with_columns(item_id=pl.Series(items[:, rank], dtype=pl.String))
        for rank in range(items.shape[1])
    ]
    return pl.concat(columns).with_columns(source=pl.lit(source))


def _draw(seed: int, query_id: str, item_id: str) -> int:
    key = f"{seed}\x1f{query_id}\x1f{item_id}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
