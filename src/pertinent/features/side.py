"""Features that come from tables and not from texts: columns and rates of items, interest of queries, graph vectors.

A side is frozen when the student is trained. ``version`` is that of `pertinent.text.item_texts`: SERVED for all that is
served and held out, k for a training pair whose query is in cross-fitting fold k, which sees nothing of its own fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pertinent.features.declare import FeatureSpec
from pertinent.features.lexical import CorpusStatistics
from pertinent.features.terms import query_terms
from pertinent.text.sources import SERVED

LEAST_RATE = 1e-6  # an item's rate is 0 where nothing was ever engaged; its logarithm must stay finite
Arrays = dict[str, NDArray[Any]]


@runtime_checkable
class Side(Protocol):
    """A source of features. to_arrays and from_arrays: what is served of it, as a bundle stores it."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """Its features in the order of their columns."""

    def of(
        self, query: str, rows: NDArray[np.int64], statistics: CorpusStatistics, version: int
    ) -> NDArray[np.float64]:
        """(C, K) float64 of one query and the items at ``rows`` of the catalogue."""

    def to_arrays(self) -> Arrays:
        """name -> array, without object arrays."""


@dataclass(frozen=True)
class ItemColumns:
    """Numbers of items. tables: version -> (N, K) float32 without NaN; a version that is not there is the served one."""

    specs: tuple[FeatureSpec, ...]
    tables: Mapping[int, NDArray[np.float32]]

    def of(
        self, query: str, rows: NDArray[np.int64], statistics: CorpusStatistics, version: int
    ) -> NDArray[np.float64]:
        """(C, K) float64: the same for any query."""
        table = self.tables.get(version, self.tables[SERVED])
        return np.asarray(table[rows], dtype=np.float64)

    def to_arrays(self) -> Arrays:
        """The served table."""
        return {"values": self.tables[SERVED]}

    @classmethod
    def from_arrays(cls, specs: tuple[FeatureSpec, ...], arrays: Arrays) -> ItemColumns:
        """The inverse of to_arrays."""
        return cls(specs, {SERVED: arrays["values"]})


@dataclass(frozen=True)
class Interest:
    """Which categories of items a query's terms lead to.

    P(c | term) = (weight of c under the term + s P(c)) / (weight under the term + s), P(c | query) = its mean over the
    query's terms that the labels have; P(c) where they have none. category_of: (N,) int32, -1 for none. By version,
    priors: (C,) float32 P(c); rows: (n_terms,) int32, a term's row of the table, -1 for none; tables: (T, C) float32
    P(c | term).
    """

    category_of: NDArray[np.int32]
    priors: Mapping[int, NDArray[np.float32]]
    rows: Mapping[int, NDArray[np.int32]]
    tables: Mapping[int, NDArray[np.float32]]
    specs: tuple[FeatureSpec, ...] = (
        FeatureSpec("interest.share", "query-item", "categories"),  # P(category of the item | query)
        FeatureSpec("interest.lift", "query-item", "categories"),  # log(P(c | query) / P(c))
        FeatureSpec("interest.entropy", "query", "categories"),  # of P(c | query), in nats
    )

    def distribution(self, query: str, statistics: CorpusStatistics, version: int = SERVED) -> NDArray[np.float64]:
        """P(c | query): (C,) float64 summing to 1."""
        ids = np.array(statistics.ids(dict.fromkeys(query_terms(query))), dtype=np.int64)
        rows = self.rows[version][ids[ids >= 0]]
        rows = rows[rows >= 0]
        prior = self.priors[version].astype(np.float64)
        return self.tables[version][rows].astype(np.float64).mean(axis=0) if rows.size else prior

    def of(
        self, query: str, rows: NDArray[np.int64], statistics: CorpusStatistics, version: int
    ) -> NDArray[np.float64]:
        """(C, 3) float64; an item without a category has 0 in the first two."""
        probs = self.distribution(query, statistics, version)
        lift = np.log(probs / self.priors[version])
        found = np.zeros((rows.size, 3))
        categories = self.category_of[rows]
        known = categories >= 0
        found[known, 0], found[known, 1] = probs[categories[known]], lift[categories[known]]
        found[:, 2] = -(probs * np.log(probs)).sum()
        return found

    def to_arrays(self) -> Arrays:
        """The served version."""
        arrays: Arrays = {"category_of": self.category_of, "priors": self.priors[SERVED]}
        return {**arrays, "rows": self.rows[SERVED], "tables": self.tables[SERVED]}

    @classmethod
    def from_arrays(cls, specs: tuple[FeatureSpec, ...], arrays: Arrays) -> Interest:
        """The inverse of to_arrays."""
        priors, rows, tables = ({SERVED: arrays[name]} for name in ("priors", "rows", "tables"))
        return cls(arrays["category_of"], priors, rows, tables, specs)


@dataclass(frozen=True)
class Graph:
    """How near a query's terms and an item are in what people engaged with together (`pertinent.features.graph`).

    items: version -> (N, d) float32, of length 1 or 0. rows: version -> (n_terms,) int32, a term's row of terms, -1 for
    none. terms: version -> (T, d) float32. A cosine does not depend on
    the axes, which differ from one version's factorisation to the next; the vectors themselves are no features.
    """

    items: Mapping[int, NDArray[np.float32]]
    rows: Mapping[int, NDArray[np.int32]]
    terms: Mapping[int, NDArray[np.float32]]
    specs: tuple[FeatureSpec, ...] = (
        FeatureSpec("graph.cosine", "query-item", "engaged queries and boards"),
        FeatureSpec("graph.known", "item", "engaged queries and boards"),  # 1 if the item has a vector
    )

    def of(
        self, query: str, rows: NDArray[np.int64], statistics: CorpusStatistics, version: int
    ) -> NDArray[np.float64]:
        """(C, 2) float64."""
        ids = np.array(statistics.ids(dict.fromkeys(query_terms(query))), dtype=np.int64)
        known = self.rows[version][ids[ids >= 0]]
        vector = self.terms[version][known[known >= 0]].astype(np.float64).sum(axis=0)
        length = float(np.linalg.norm(vector))
        items = self.items[version][rows].astype(np.float64)
        # A product and a sum a row: a matrix product's last bits depend on how many rows there are.
        cosines = (items * vector).sum(axis=1) / length if length > 0 else np.zeros(rows.size)
        return np.stack([cosines, items.any(axis=1).astype(np.float64)], axis=1)

    def to_arrays(self) -> Arrays:
        """The served version."""
        return {"items": self.items[SERVED], "rows": self.rows[SERVED], "terms": self.terms[SERVED]}

    @classmethod
    def from_arrays(cls, specs: tuple[FeatureSpec, ...], arrays: Arrays) -> Graph:
        """The inverse of to_arrays."""
        items, rows, terms = ({SERVED: arrays[name]} for name in ("items", "rows", "terms"))
        return cls(items, rows, terms, specs)


SIDES: dict[str, Any] = {"columns": ItemColumns, "interest": Interest, "graph": Graph}


def kind_of(side: Side) -> str:
    """The side's key in SIDES."""
    return next(name for name, kind in SIDES.items() if isinstance(side, kind))


def specs_of(sides: Sequence[Side]) -> tuple[FeatureSpec, ...]:
    """The features of all sides in order."""
    return tuple(spec for side in sides for spec in side.specs)
