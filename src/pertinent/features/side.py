"""Features that come from tables and not from texts: columns and rates of items, interest of queries, graph vectors.

A side is frozen when the student is trained. ``version`` is that of `pertinent.text.item_texts`: SERVED for all that is
served and held out, k for a training pair whose query is in cross-fitting fold k, which sees nothing of its own fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.features.corpus import CorpusStatistics
from pertinent.features.declare import FeatureSpec
from pertinent.features.terms import query_terms
from pertinent.text.sources import SERVED

GIVEN = "column."  # starts the name of a feature that is a column of the items as it is
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

    @property
    def width(self) -> int:
        """W: float32 numbers that it keeps of an item."""

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(C, W) float32: what it keeps of the items at ``rows``, served version."""

    def with_values(self, values: NDArray[np.float32]) -> Side:
        """The same side over other items: those that have these values, in this order."""

    def encoded(self, items: pl.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(C, W) float32 of items that are given anew.

        items: columns as in the data stage's table. rows: (C,) their places among the side's items, -1 for a new one.
        What was given of an item is read again; what was learned of it from logs stays, and a new item has the default.
        """

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

    @property
    def width(self) -> int:
        """A number a feature."""
        return len(self.specs)

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of the served table."""
        return np.asarray(self.tables[SERVED][rows], dtype=np.float32)

    def with_values(self, values: NDArray[np.float32]) -> ItemColumns:
        """The same columns of other items."""
        return ItemColumns(self.specs, {SERVED: values})

    def encoded(self, items: pl.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """A given column as `passthrough` reads it; a mined rate stays. Raises DataError for a vector of other length."""
        found = np.tile(np.array([spec.default for spec in self.specs], dtype=np.float32), (rows.size, 1))
        known = rows >= 0
        for k, spec in enumerate(self.specs):
            if not spec.name.startswith(GIVEN):
                found[known, k] = self.tables[SERVED][rows[known], k]
            elif spec.source in items.columns:
                found[:, k] = _given(items[spec.source], spec, sum(one.source == spec.source for one in self.specs))
        return found

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
    names: tuple[str, ...]  # of the categories
    column: str  # of the items, that has them
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

    @property
    def width(self) -> int:
        """The category."""
        return 1

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The category's number, -1 for none."""
        return self.category_of[rows].astype(np.float32)[:, None]

    def with_values(self, values: NDArray[np.float32]) -> Interest:
        """The same interest over other items."""
        return replace(self, category_of=values[:, 0].astype(np.int32))

    def encoded(self, items: pl.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The category that each item names; -1 for one that has none or one that was not among the learned."""
        number: dict[str | None, int] = {name: k for k, name in enumerate(self.names)}
        given = items[self.column].to_list() if self.column in items.columns else [None] * items.height
        return np.array([[number.get(name, -1)] for name in given], dtype=np.float32).reshape(items.height, 1)

    def to_arrays(self) -> Arrays:
        """The served version."""
        arrays: Arrays = {"category_of": self.category_of, "priors": self.priors[SERVED]}
        arrays |= {"names": np.array(self.names, dtype=str), "column": np.array([self.column], dtype=str)}
        return {**arrays, "rows": self.rows[SERVED], "tables": self.tables[SERVED]}

    @classmethod
    def from_arrays(cls, specs: tuple[FeatureSpec, ...], arrays: Arrays) -> Interest:
        """The inverse of to_arrays."""
        priors, rows, tables = ({SERVED: arrays[name]} for name in ("priors", "rows", "tables"))
        names, column = tuple(arrays["names"].tolist()), str(arrays["column"][0])
        return cls(arrays["category_of"], priors, rows, tables, names, column, specs)


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

    @property
    def width(self) -> int:
        """d."""
        return int(self.items[SERVED].shape[1])

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The items' vectors."""
        return np.asarray(self.items[SERVED][rows], dtype=np.float32)

    def with_values(self, values: NDArray[np.float32]) -> Graph:
        """The same graph over other items."""
        return replace(self, items={SERVED: values})

    def encoded(self, items: pl.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vector that an item had; zeros for a new one, which nobody has engaged with."""
        found = np.zeros((rows.size, self.width), dtype=np.float32)
        found[rows >= 0] = self.items[SERVED][rows[rows >= 0]]
        return found

    def to_arrays(self) -> Arrays:
        """The served version."""
        return {"items": self.items[SERVED], "rows": self.rows[SERVED], "terms": self.terms[SERVED]}

    @classmethod
    def from_arrays(cls, specs: tuple[FeatureSpec, ...], arrays: Arrays) -> Graph:
        """The inverse of to_arrays."""
        items, rows, terms = ({SERVED: arrays[name]} for name in ("items", "rows", "terms"))
        return cls(items, rows, terms, specs)


OF_ITEMS = frozenset(
    {"values", "category_of", "items"}
)  # arrays of to_arrays with a row an item; the others are learned
SIDES: dict[str, Any] = {"columns": ItemColumns, "interest": Interest, "graph": Graph}


def kind_of(side: Side) -> str:
    """The side's key in SIDES."""
    return next(name for name, kind in SIDES.items() if isinstance(side, kind))


def specs_of(sides: Sequence[Side]) -> tuple[FeatureSpec, ...]:
    """The features of all sides in order."""
    return tuple(spec for side in sides for spec in side.specs)


def _given(column: pl.Series, spec: FeatureSpec, n_parts: int) -> NDArray[np.float32]:
    """(C,) of one feature of a given column; its default where the item has none. Raises DataError."""
    if not isinstance(column.dtype, pl.List | pl.Array):
        return column.cast(pl.Float64).fill_nan(None).fill_null(spec.default).to_numpy().astype(np.float32)
    part = int(spec.name.removeprefix(f"{GIVEN}{spec.source}."))
    found = np.full(column.len(), spec.default, dtype=np.float32)
    for i, row in enumerate(column.to_list()):
        if row is None:
            continue
        if len(row) != n_parts:
            raise DataError(f"{spec.source}: expected {n_parts} numbers, found {len(row)}")
        found[i] = row[part]
    return found
