from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.data.splits import query_id_of
from pertinent.errors import ConfigError, DataError
from pertinent.features.engagement import item_engagement, pair_engagement, passthrough
from pertinent.features.lexical import CorpusStatistics
from pertinent.features.side import ItemColumns, PairRates

IDS = ["a", "b", "c"]
NO_TERMS = CorpusStatistics.of({"title": [["x"]], "body": [["x"]]})
ROWS = np.arange(3)


@pytest.fixture
def mined(tmp_path: Path) -> Path:
    rows = [("a", -1, 9, 0.5), ("a", 0, 4, 0.25), ("b", -1, 0, 0.125), ("b", 0, 0, 0.125), ("gone", -1, 7, 0.9)]
    columns = {"item_id": pl.String, "text_version": pl.Int8, "impressions": pl.Int64, "rate": pl.Float64}
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(tmp_path / "item_rates.parquet")
    pairs = [
        ("red sofa", "a", -1, 3, 1.0),
        ("red sofa", "a", 0, 0, 0.25),
        ("oak", "b", -1, 1, 0.0625),
        ("oak", "a", -1, 0, 0.5),
        ("oak", "gone", -1, 5, 0.5),
    ]
    table = pl.DataFrame(pairs, schema={"query": pl.String, **columns}, orient="row")
    ids = pl.Series("query_id", [query_id_of(query) for query in table["query"]])
    table.with_columns(ids).write_parquet(tmp_path / "rates.parquet")
    return tmp_path


def of(side: ItemColumns | PairRates, query: str = "", version: int = -1) -> list[list[float]]:
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


def test_a_pair_is_found_by_its_normalised_query_and_only_when_served(mined: Path) -> None:
    side = pair_engagement(mined, IDS)
    assert of(side, " Red  SOFA ") == [pytest.approx([math.log(2), math.log(4)]), [0, 0], [0, 0]]
    assert of(side, "oak") == [[0, 0], pytest.approx([-math.log(2), math.log(2)]), [0, 0]]
    assert of(side, "velvet") == of(side, "red sofa", version=0) == [[0, 0]] * 3
    backwards = side.of("oak", np.array([2, 1, 1, 0]), NO_TERMS, -1)
    assert backwards[:, 1] == pytest.approx([0, math.log(2), math.log(2), 0])


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
