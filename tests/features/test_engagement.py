from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.errors import ConfigError, DataError
from pertinent.features.corpus import CorpusStatistics
from pertinent.features.engagement import item_engagement, passthrough
from pertinent.features.side import ItemColumns

IDS = ["a", "b", "c"]
NO_TERMS = CorpusStatistics.of({"title": [["x"]], "body": [["x"]]})
ROWS = np.arange(3)


@pytest.fixture
def mined(tmp_path: Path) -> Path:
    rows = [("a", -1, 9, 0.5), ("a", 0, 4, 0.25), ("b", -1, 0, 0.125), ("b", 0, 0, 0.125), ("gone", -1, 7, 0.9)]
    columns = {"item_id": pl.String, "text_version": pl.Int8, "impressions": pl.Int64, "rate": pl.Float64}
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(tmp_path / "item_rates.parquet")
    return tmp_path


def of(side: ItemColumns, query: str = "", version: int = -1) -> list[list[float]]:
    found: list[list[float]] = side.of(query, ROWS, NO_TERMS, version).tolist()
    return found


def test_item_rates_are_those_of_the_version_and_a_missing_item_has_the_mean(mined: Path) -> None:
    side = item_engagement(mined, IDS)
    served = [math.log(0.5), math.log(0.125), (math.log(0.5) + math.log(0.125)) / 2]
    assert [row[0] for row in of(side)] == pytest.approx(served)
    assert [row[1] for row in of(side)] == pytest.approx([math.log(10), 0, 0])
    assert side.specs[0].default == pytest.approx(served[2])
    fold = [math.log(0.25), math.log(0.125)]
    assert [row[0] for row in of(side, version=0)] == pytest.approx([*fold, sum(fold) / 2])


def test_a_mined_folder_without_rates_is_refused(tmp_path: Path, mined: Path) -> None:
    table = pl.read_parquet(mined / "item_rates.parquet")
    table.clear().write_parquet(mined / "item_rates.parquet")
    with pytest.raises(DataError, match="expected rates of text_version -1, found none"):
        item_engagement(mined, IDS)


def test_passthrough_takes_numbers_and_vectors_with_stated_defaults() -> None:
    items = pl.DataFrame(
        {"item_id": ["b", "a"], "price": [4.0, 2.0], "new": [True, None], "v": [[1.0, 2.0], None]},
    )
    side = passthrough(items, IDS, ["price", "v", "new"])
    assert [(spec.name, spec.default) for spec in side.specs] == [
        ("column.price", 3.0),
        ("column.v.0", 0.0),
        ("column.v.1", 0.0),
        ("column.new", 1.0),
    ]
    assert of(side) == of(side, "oak", version=3) == [[2, 0, 0, 1], [4, 1, 2, 1], [3, 0, 0, 1]]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("colour", "expected columns of items.parquet, found no colour"),
        ("item_id", "found no item_id"),
        ("title", "title: expected numbers or vectors, found String"),
        ("ragged", r"ragged: expected vectors of one length, found \[1, 2\]"),
        ("words", "words: expected vectors of numbers"),
    ],
)
def test_a_column_that_holds_no_numbers_is_refused(name: str, problem: str) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["x", "y"], "ragged": [[1.0], [1.0, 2.0]]})
    items = items.with_columns(words=pl.Series([["x"], ["y"]]))
    with pytest.raises(ConfigError, match=problem):
        passthrough(items, IDS, [name])
