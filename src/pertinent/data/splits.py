"""Splits by query: a hash of the normalised query text decides, so nothing else in the data can move a query.

The rule needs no list of queries: it is the same for any order of rows, and a growing data set never moves a query
from one split to another.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import polars as pl
from pydantic import Field, model_validator

from pertinent.config import Config
from pertinent.types import Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
N_FOLDS = 5
# What of a query decides its split: its normalised text, or its words in any order.
SplitBy = Literal["text", "words"]
DEV_SHARE_OF_REST = 1 / 6


class SplitConfig(Config):
    """Shares of the queries held out; the rest is train."""

    test: float = Field(default=0.14, gt=0.0, lt=1.0, description="share of queries kept for the table; DESIGN.md")
    dev: float = Field(default=0.07, gt=0.0, lt=1.0, description="share of queries for every choice; DESIGN.md")

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> SplitConfig:
        if self.test + self.dev >= 1.0:
            raise ValueError(f"test + dev must be under 1, got {self.test} + {self.dev}")
        return self


def normalise_query(text: str) -> str:
    """The form that decides a query's identity: NFKC, case folded, every run of whitespace one space, stripped.

    "Rain Shower " and "rain  shower" are one query. Misspellings are left alone: they are other queries.
    """
    # NFKC again, for case folding takes some letters apart: without it the two cases of a Greek ΐ are two queries.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def sorted_words(text: str) -> str:
    """The normalised query with its words in order: reorderings of one query have the same."""
    return " ".join(sorted(normalise_query(text).split(" ")))


def query_id_of(text: str) -> str:
    """The first 16 hex digits of the SHA-256 of the normalised query text."""
    return _digest(text).hex()[:16]


def split_of(text: str, config: SplitConfig | None = None) -> Split:
    """The split of a query: h in [0, 1) from its hash; test if h < test, dev if h < test + dev, else train."""
    config = config or SplitConfig()
    h = int.from_bytes(_digest(text)[:8], "big") / 2**64
    if h < config.test:
        return "test"
    # Rounded, for .14 + .07 is not .21 in binary.
    return "dev" if h < round(config.test + config.dev, 12) else "train"


def normalised(queries: pl.Series) -> pl.Series:
    """`normalise_query` of each query. queries: strings without nulls. Returns strings."""
    return _map_unique(queries, normalise_query)


def query_ids(queries: pl.Series) -> pl.Series:
    """`query_id_of` of each query. queries: strings without nulls. Returns strings."""
    return _map_unique(queries, query_id_of)


def splits(queries: pl.Series, config: SplitConfig | None = None, by: SplitBy = "text") -> pl.Series:
    """`split_of` of each query. queries: strings without nulls. Returns "train", "dev" or "test".

    by: "words" keeps the reorderings of one query in one split.
    """
    key = sorted_words if by == "words" else normalise_query
    return _map_unique(queries, lambda text: split_of(key(text), config))


@dataclass(frozen=True)
class SplitRule:
    """How a data set puts a query that it has no judgment of into a split; judged ones may have a split of their own."""

    config: SplitConfig
    by: SplitBy = "text"

    def of(self, queries: pl.Series) -> pl.Series:
        """`splits` of each query by this rule."""
        return splits(queries, self.config, self.by)


def fold_splits(queries: pl.Series, fold: int) -> pl.Series:
    """The splits of a fixed set in five folds by query: test is one fold, dev a sixth of the other queries.

    The k-th distinct query by its hash is in fold k mod 5. So the folds are of one size, which the hash modulo 5 would
    not give a small set; they are the same for any order of rows, and each query is in test once. A further query may
    move others: this is for a published set that does not grow. Dev is drawn from the rest by a second hash.
    queries: strings without nulls; an empty one takes no place in a fold. Returns "train", "dev" or "test".
    """
    keys = normalised(queries)
    ordered = sorted(set(keys) - {""}, key=_digest)
    test = set(ordered[fold::N_FOLDS])
    rest = sorted(set(ordered) - test, key=lambda key: _digest(f"dev {key}"))
    dev = set(rest[: round(len(rest) * DEV_SHARE_OF_REST)])
    return _map_unique(keys, lambda key: "test" if key in test else "dev" if key in dev else "train")


def cross_folds(queries: pl.Series, n_folds: int) -> pl.Series:
    """The cross-fitting fold of each query, 0..n_folds - 1 (Int8), by a hash that is independent of the split.

    What is mined from a log for a training pair of fold k comes from the queries of the other folds alone.
    queries: strings without nulls; spellings that normalise alike share a fold. n_folds: 2 to 127.
    """

    def fold_of(text: str) -> str:
        return str(int.from_bytes(_digest(f"fold {normalise_query(text)}")[:8], "big") % n_folds)

    return _map_unique(queries, fold_of).cast(pl.Int8)


def _digest(text: str) -> bytes:
    return hashlib.sha256(normalise_query(text).encode("utf-8", "surrogatepass")).digest()


def _map_unique(queries: pl.Series, function: Callable[[str], str]) -> pl.Series:
    # A log repeats its queries many times: each text is hashed once.
    unique = cast("list[str]", queries.unique().to_list())
    if not unique:
        return queries.cast(pl.String)
    return queries.replace_strict(unique, [function(text) for text in unique], return_dtype=pl.String)
