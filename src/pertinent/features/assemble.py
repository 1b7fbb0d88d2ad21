"""All features of a query and items, by the one path that training and serving take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pertinent.features.corpus import CorpusStatistics, LexicalItems
from pertinent.features.declare import FeatureSpec
from pertinent.features.lexical import feature_specs, lexical_features
from pertinent.features.side import Side, specs_of
from pertinent.text.sources import SERVED


def all_specs(sides: Sequence[Side] = ()) -> tuple[FeatureSpec, ...]:
    """The declared features in the order of their columns: the lexical ones, then those of each side."""
    return (*feature_specs(), *specs_of(sides))


def pair_features(
    query: str,
    items: LexicalItems,
    rows: NDArray[np.int64],
    statistics: CorpusStatistics,
    sides: Sequence[Side] = (),
    version: int = SERVED,
) -> NDArray[np.float32]:
    """Features of one query against C items: (C, F) float32, columns in the order of `all_specs`.

    items: the texts of these items. rows: (C,) the items' places in the catalogue that the sides were made of.
    """
    lexical = lexical_features(query, items, statistics)
    others = [side.of(query, rows, statistics, version).astype(np.float32) for side in sides]
    return np.concatenate([lexical, *others], axis=1) if others else lexical


def text_features(
    query: str, items: LexicalItems, statistics: CorpusStatistics, sides: Sequence[Side] = ()
) -> NDArray[np.float32]:
    """Features of one query against C items that no catalogue has, as served: (C, F) float32, as `pair_features`.

    What a side would say of an item or pair has its declared default; what it says of the query is as ever.
    """
    lexical = lexical_features(query, items, statistics)
    others = [_of_query(side, query, statistics) for side in sides]
    return np.concatenate([lexical, *(np.tile(row, (lexical.shape[0], 1)) for row in others)], axis=1)


def _of_query(side: Side, query: str, statistics: CorpusStatistics) -> NDArray[np.float32]:
    told = side.of(query, np.zeros(1, dtype=np.int64), statistics, SERVED)[
        0
    ]  # of any item: of its kind query is the same
    values = [value if spec.kind == "query" else spec.default for value, spec in zip(told, side.specs, strict=True)]
    return np.array(values, dtype=np.float32)
