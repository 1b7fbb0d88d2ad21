"""The student's rows: label shards, judged dev pairs and items turned into arrays by the code that serves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.errors import DataError
from pertinent.features.encoder import tokenise
from pertinent.features.lexical import FEATURE_NAMES, FIELDS, CorpusStatistics, LexicalItems, lexical_features
from pertinent.features.ragged import Ragged
from pertinent.features.terms import terms_of
from pertinent.files import read_parquet
from pertinent.progress import progress
from pertinent.text.item_texts import ItemTexts


@dataclass(frozen=True)
class Catalogue:
    """Rows of item texts, those that are served first. tokens: of the text that the teacher reads.

    ids: of the served rows, one an item. A training pair may have a row of its own further down (`ItemTexts`), so that
    no feature matches a query with what was mined from it.
    """

    ids: list[str]
    texts: ItemTexts
    tokens: Ragged
    lexical: LexicalItems
    statistics: CorpusStatistics


@dataclass(frozen=True)
class PairRows:
    """Pairs as arrays: query_rows (N,) into queries, item_rows (N,) into the catalogue, features (N, F) float32."""

    queries: list[str]
    query_tokens: Ragged
    query_rows: NDArray[np.int64]
    item_rows: NDArray[np.int64]
    features: NDArray[np.float32]


def read_labels(folder: Path, probability_columns: tuple[str, ...]) -> pl.DataFrame:
    """All label shards of a folder, in order of file name. Raises DataError when there is none."""
    shards = sorted(folder.glob("shard-*.parquet"))
    if not shards:
        raise DataError(f"{folder}: expected label shards (shard-*.parquet), found none")
    return pl.concat([read_parquet(shard, ["query", "item_id", *probability_columns]) for shard in shards])


def read_catalogue(text: Path, tokenizer: Tokenizer) -> Catalogue:
    """The items of the text stage, with corpus statistics counted over all of them, each once."""
    texts = ItemTexts.read(text, ("text", *FIELDS))
    served = {field: texts.served[field].to_list() for field in FIELDS}
    statistics = CorpusStatistics.of({field: [terms_of(value) for value in served[field]] for field in FIELDS})
    return Catalogue(
        ids=texts.served["item_id"].to_list(),
        texts=texts,
        tokens=tokenise(tokenizer, texts.rows["text"].to_list()),
        lexical=LexicalItems.of({field: texts.rows[field].to_list() for field in FIELDS}, statistics),
        statistics=statistics,
    )


def pair_rows(pairs: pl.DataFrame, catalogue: Catalogue, tokenizer: Tokenizer, label: str) -> PairRows:
    """Features of pairs (query, item_id, split), computed a query at a time as they are when served."""
    queries = pairs["query"].unique(maintain_order=True).to_list()
    query_of = {query: row for row, query in enumerate(queries)}
    query_rows = np.array([query_of[query] for query in pairs["query"]], dtype=np.int64)
    item_rows = catalogue.texts.rows_of(pairs)
    features = np.empty((pairs.height, len(FEATURE_NAMES)), dtype=np.float32)
    order = np.argsort(query_rows, kind="stable")
    edges = np.searchsorted(query_rows[order], np.arange(len(queries) + 1))
    with progress(f"student: {label} features", pairs.height, "pairs") as bar:
        for row, query in enumerate(queries):
            mine = order[edges[row] : edges[row + 1]]
            items = catalogue.lexical.take(item_rows[mine])
            features[mine] = lexical_features(query, items, catalogue.statistics)
            bar.advance(mine.size)
    return PairRows(queries, tokenise(tokenizer, queries), query_rows, item_rows, features)
