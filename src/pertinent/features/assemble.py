"""All features of a query and items, by the one path that training and serving take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pertinent.features.declare import FeatureSpec
from pertinent.features.lexical import CorpusStatistics, LexicalItems, feature_specs, lexical_features
from pertinent.features.side import SERVED, Side, specs_of


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
