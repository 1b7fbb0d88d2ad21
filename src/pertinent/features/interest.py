"""Learn the interest of queries: which categories the items of a query's labels or clicks have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.data.splits import cross_folds
from pertinent.errors import ConfigError
from pertinent.features.corpus import CorpusStatistics
from pertinent.features.side import Interest
from pertinent.features.terms import query_terms
from pertinent.text.sources import SERVED

MAX_CATEGORIES = 64  # the commonest; a table row a term has as many numbers
_STRENGTH = 5.0  # of the prior, in pairs of full weight


def learn_interest(
    pairs: pl.DataFrame,
    categories: Sequence[str | None],
    ids: Sequence[str],
    statistics: CorpusStatistics,
    n_folds: int,
    column: str,
) -> Interest:
    """pairs: query, item_id, weight >= 0 (an expected grade, a number of clicks), of training queries alone.

    categories: of each item of ``ids``. Version k leaves out the queries of cross-fitting fold k.
    Raises ConfigError where no item has a category.
    """
    counts = Counter(name for name in categories if name is not None)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    if not names:
        raise ConfigError(f"student.features.interest: expected categories in items' {column}, found none")
    number = {name: k for k, name in enumerate(names)}
    category_of = np.array([number.get(name, -1) if name is not None else -1 for name in categories], dtype=np.int32)
    place = {item: row for row, item in enumerate(ids)}
    item_rows = np.array([place.get(item, -1) for item in pairs["item_id"]], dtype=np.int64)
    found = np.where(item_rows >= 0, category_of[item_rows], -1)
    kept = pairs.with_columns(category=pl.Series(found)).filter((pl.col("category") >= 0) & (pl.col("weight") > 0))
    kept = kept.group_by("query", "category").agg(pl.col("weight").sum()).sort("query", "category")
    folds = cross_folds(kept["query"], n_folds).to_numpy()
    terms, weights, of_category, of_fold = _spread(kept, folds, statistics)
    priors, rows, tables = {}, {}, {}
    for version in (SERVED, *range(n_folds)):
        use = of_fold != version
        shape = (len(statistics.terms), len(names))
        used = np.unique(terms[use])
        row_of = np.full(shape[0], -1, dtype=np.int32)
        row_of[used] = np.arange(used.size)
        sums = np.zeros((used.size, len(names)))
        np.add.at(sums, (row_of[terms[use]], of_category[use]), weights[use])
        outside = folds != version
        # One pair more of each category: no share is 0, so every logarithm is finite.
        totals = np.bincount(kept["category"].to_numpy()[outside], kept["weight"].to_numpy()[outside], len(names)) + 1.0
        prior = totals / totals.sum()
        table = (sums + _STRENGTH * prior) / (sums.sum(axis=1, keepdims=True) + _STRENGTH)
        priors[version], rows[version], tables[version] = prior.astype(np.float32), row_of, table.astype(np.float32)
    return Interest(category_of, priors, rows, tables, tuple(names), column)


def _spread(
    kept: pl.DataFrame, folds: NDArray[np.int8], statistics: CorpusStatistics
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int8]]:
    """One entry for each distinct known term of each row: its id, the row's weight, category and fold."""
    ids_of = {
        query: [i for i in statistics.ids(dict.fromkeys(query_terms(query))) if i >= 0]
        for query in kept["query"].unique()
    }
    per_row = [ids_of[query] for query in kept["query"]]
    repeat = np.array([len(ids) for ids in per_row], dtype=np.int64)
    terms = np.array([i for ids in per_row for i in ids], dtype=np.int64)
    weights = np.repeat(kept["weight"].to_numpy().astype(np.float64), repeat)
    return terms, weights, np.repeat(kept["category"].to_numpy().astype(np.int64), repeat), np.repeat(folds, repeat)
