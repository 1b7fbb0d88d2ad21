"""The student's items and pairs turned into arrays by the code that serves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from sys import intern

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.data.splits import N_FOLDS, cross_folds
from pertinent.errors import ConfigError, DataError
from pertinent.features.assemble import all_specs, pair_features
from pertinent.features.corpus import FIELDS, CorpusStatistics, LexicalItems
from pertinent.features.declare import FeatureSpec
from pertinent.features.encoder import tokenise
from pertinent.features.engagement import ITEM_RATES, item_engagement, passthrough
from pertinent.features.graph import learn_graph
from pertinent.features.interest import learn_interest
from pertinent.features.ragged import Ragged
from pertinent.features.side import Side
from pertinent.features.terms import terms_of
from pertinent.files import read_parquet
from pertinent.progress import progress
from pertinent.student.config import FeaturesConfig
from pertinent.text.item_texts import ItemTexts
from pertinent.text.sources import SERVED

VECTORS = "vectors"  # stands for the vectors of texts among the names of features


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
    sides: tuple[Side, ...] = ()
    n_folds: int = N_FOLDS  # of the sides' versions, where no mined table tells

    def served_rows(self, item_ids: list[str]) -> NDArray[np.int64]:
        """(N,) int64: the place of each item in ``ids``, which is what sides go by."""
        return np.array([self._place[item] for item in item_ids], dtype=np.int64)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.ids)}


@dataclass(frozen=True)
class PairRows:
    """Pairs as arrays: query_rows (N,) into queries, item_rows (N,) into the catalogue, features (N, F) float32."""

    queries: list[str]
    query_rows: NDArray[np.int64]
    item_rows: NDArray[np.int64]
    features: NDArray[np.float32]


def read_catalogue(text: Path, tokenizer: Tokenizer) -> Catalogue:
    """The items of the text stage, with corpus statistics counted over all of them, each once."""
    texts = ItemTexts.read(text, ("text", *FIELDS))
    # One object a term: there are far fewer terms than places where they stand.
    terms = {field: [[*map(intern, terms_of(value))] for value in texts.rows[field]] for field in FIELDS}
    statistics = CorpusStatistics.of({field: rows[: texts.n_items] for field, rows in terms.items()})
    return Catalogue(
        ids=texts.served["item_id"].to_list(),
        texts=texts,
        tokens=tokenise(tokenizer, texts.rows["text"].to_list()),
        lexical=LexicalItems.of_terms(terms, statistics),
        statistics=statistics,
    )


def with_sides(
    catalogue: Catalogue,
    config: FeaturesConfig,
    items: pl.DataFrame,
    labels: Callable[[], pl.DataFrame],
    mined: Mapping[str, Path],
) -> Catalogue:
    """The catalogue with the sides that ``config`` asks for.

    items: the data stage's. labels: gives query, item_id, weight (expected grade) of training pairs. mined: the
    folders of the stages "mine" and "boards" where there are. Raises ConfigError for a side that has no source.
    """
    ids = catalogue.ids
    sides: list[Side] = []
    if config.engagement and "mine" not in mined:
        raise ConfigError("student.features.engagement: expected a section mine in the config, found none")
    n_folds = catalogue.texts.n_folds or (_folds_of(mined["mine"]) if config.engagement else N_FOLDS)
    if config.columns:
        sides.append(passthrough(items, ids, config.columns))
    if config.engagement:
        sides.append(item_engagement(mined["mine"], ids))
    if config.interest is not None:
        if config.interest not in items.columns or items.schema[config.interest] != pl.String:
            columns = ", ".join(name for name, dtype in items.schema.items() if dtype == pl.String)
            raise ConfigError(
                f"student.features.interest: expected a text column of items.parquet ({columns}), found {config.interest}"
            )
        found = pl.DataFrame({"item_id": ids}).join(items, on="item_id", how="left", maintain_order="left")
        categories = found[config.interest].to_list()
        sides.append(learn_interest(labels(), categories, ids, catalogue.statistics, n_folds, config.interest))
    if config.graph:
        if not mined:
            raise ConfigError("student.features.graph: expected a section mine or boards in the config, found neither")
        sides.append(learn_graph(list(mined.values()), ids, catalogue.statistics, config.graph, n_folds))
    return replace(catalogue, sides=tuple(sides), n_folds=n_folds)


def _folds_of(mined: Path) -> int:
    versions = read_parquet(mined / ITEM_RATES, ["text_version"])["text_version"].max()
    if not isinstance(versions, int) or versions < 1:
        raise DataError(
            f"{mined / ITEM_RATES}: expected a text_version for each fold, found {versions!r} as the highest"
        )
    return versions + 1


def left_out(specs: Sequence[FeatureSpec], without: Sequence[str]) -> tuple[NDArray[np.bool_], bool]:
    """Which features ``without`` names, (F,) bool, and whether it names the vectors of texts.

    Raises ConfigError for a pattern that no feature fits.
    """
    names = [*(spec.name for spec in specs), VECTORS]
    found = np.zeros(len(names), dtype=bool)
    for pattern in without:
        fits = np.array([fnmatchcase(name, pattern) for name in names])
        if not fits.any():
            raise ConfigError(f"student.features.without: expected a feature or a pattern of some, found {pattern}")
        found |= fits
    return found[:-1], bool(found[-1])


def pair_rows(pairs: pl.DataFrame, catalogue: Catalogue, label: str) -> PairRows:
    """Pairs (query, item_id, split) as arrays."""
    queries = pairs["query"].unique(maintain_order=True).to_list()
    query_of = {query: row for row, query in enumerate(queries)}
    query_rows = np.array([query_of[query] for query in pairs["query"]], dtype=np.int64)
    item_rows = catalogue.texts.rows_of(pairs)
    with progress(f"student: {label} features", pairs.height, "pairs") as bar:
        features = pair_features_of(pairs, item_rows, catalogue)
        bar.advance(pairs.height)
    return PairRows(queries, query_rows, item_rows, features)


def pair_features_of(pairs: pl.DataFrame, item_rows: NDArray[np.int64], catalogue: Catalogue) -> NDArray[np.float32]:
    """Features of pairs (query, item_id, split), computed a query at a time as they are when served: (N, F) float32.

    item_rows: (N,) the row of the catalogue's texts that each pair may read.
    """
    features = np.empty((pairs.height, len(all_specs(catalogue.sides))), dtype=np.float32)
    versions = _versions(pairs, catalogue)
    served_rows = catalogue.served_rows(pairs["item_id"].to_list()) if catalogue.sides else item_rows
    groups = pairs.select("query").with_columns(version=pl.Series(versions)).with_row_index("pair")
    for (query, version), group in groups.group_by("query", "version", maintain_order=True):
        mine = group["pair"].to_numpy().astype(np.int64)
        items = catalogue.lexical.take(item_rows[mine])
        features[mine] = pair_features(
            str(query), items, served_rows[mine], catalogue.statistics, catalogue.sides, int(str(version))
        )
    return features


def _versions(pairs: pl.DataFrame, catalogue: Catalogue) -> NDArray[np.int64]:
    """(N,) int64: the version of the sides that each pair may read, as `ItemTexts.rows_of` has it for texts."""
    if not catalogue.sides:
        return np.full(pairs.height, SERVED, dtype=np.int64)
    folds = cross_folds(pairs["query"], catalogue.n_folds).to_numpy().astype(np.int64)
    return np.where((pairs["split"] == "train").to_numpy(), folds, SERVED)
