from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from pertinent.data.splits import cross_folds
from pertinent.errors import ConfigError
from pertinent.features.corpus import CorpusStatistics
from pertinent.features.interest import learn_interest

IDS = ["s", "t", "u", "none"]
CATEGORIES = ["sofas", "tables", "sofas", None]
TERMS = ["red", "sofa", "oak", "table"]
STATISTICS = CorpusStatistics.of({"title": [TERMS], "body": [[]]})
PAIRS = pl.DataFrame(
    [("red sofa", "s", 2.0), ("red sofa", "t", 1.0), ("oak table", "t", 4.0), ("oak table", "none", 9.0)],
    schema=["query", "item_id", "weight"],
    orient="row",
)


def test_interest_is_worked_by_hand() -> None:
    side = learn_interest(PAIRS, CATEGORIES, IDS, STATISTICS, 5, "category")
    # Weights: sofas 2, tables 1 + 4; one more of each: 3/9 and 6/9. Strength 5.
    prior = np.array([3, 6]) / 9
    red = (np.array([2, 1]) + 5 * prior) / 8
    oak = (np.array([0, 4]) + 5 * prior) / 9
    assert side.distribution("Red!", STATISTICS) == pytest.approx(red, abs=1e-6)
    assert side.distribution("red oak oak unheard", STATISTICS) == pytest.approx((red + oak) / 2, abs=1e-6)
    assert side.distribution("unheard", STATISTICS) == pytest.approx(prior, abs=1e-6)
    found = side.of("red", np.arange(4), STATISTICS, -1)
    assert found[:, 0] == pytest.approx([red[0], red[1], red[0], 0], abs=1e-6)
    assert found[:, 1] == pytest.approx([math.log(red[k] / prior[k]) for k in (0, 1, 0)] + [0], abs=1e-5)
    assert found[:, 2] == pytest.approx([-(red * np.log(red)).sum()] * 4, abs=1e-6)


def test_a_training_pair_sees_nothing_of_its_own_fold() -> None:
    fold = int(cross_folds(pl.Series(["red sofa"]), 5)[0])
    other = next(k for k in range(5) if k != fold and k != int(cross_folds(pl.Series(["oak table"]), 5)[0]))
    side = learn_interest(PAIRS, CATEGORIES, IDS, STATISTICS, 5, "category")
    changed = PAIRS.with_columns(weight=pl.when(pl.col("query") == "red sofa").then(50.0).otherwise("weight"))
    moved = learn_interest(changed, CATEGORIES, IDS, STATISTICS, 5, "category")
    rows = np.arange(4)
    assert (side.of("red sofa", rows, STATISTICS, fold) == moved.of("red sofa", rows, STATISTICS, fold)).all()
    assert (side.of("red sofa", rows, STATISTICS, other) != moved.of("red sofa", rows, STATISTICS, other)).any()


def test_items_without_categories_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected categories in items' kind, found none"):
        learn_interest(PAIRS, [None] * 4, IDS, STATISTICS, 5, "kind")
