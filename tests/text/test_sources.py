from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.files import write_json
from pertinent.text.sources import overlay, read_sources, versions_of

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["A", "B", "C"],
        "link_title": ["own", None, None],
        "boards": [[{"title": "low", "count": 1}, {"title": "high", "count": 9}], None, None],
    }
)


def source(folder: Path, rows: list[dict[str, Any]], n_folds: int | None = None, **about: Any) -> Path:
    folder.mkdir()
    frame = pl.DataFrame(rows).with_columns(pl.col("text_version").cast(pl.Int8))
    frame.write_parquet(folder / "fields.parquet")
    if n_folds is not None:
        write_json(folder / "fields.json", {"n_folds": n_folds})
    for name, document in about.items():
        write_json(folder / f"{name}.json", document)
    return folder


def queries(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"query": query, "weight": weight} for query, weight in pairs]


@pytest.fixture
def mined(tmp_path: Path) -> Path:
    rows = [
        {"item_id": "a", "text_version": -1, "engaged_queries": queries(("few", 1.0), ("many", 5.0))},
        {"item_id": "a", "text_version": 1, "engaged_queries": queries(("few", 1.0))},
        {"item_id": "b", "text_version": -1, "engaged_queries": queries(("only", 2.0))},
        {"item_id": "b", "text_version": 0, "engaged_queries": []},
    ]
    return source(tmp_path / "mine", rows, n_folds=3)


def test_each_version_reads_its_own_rows_and_else_those_of_serving(mined: Path) -> None:
    sources, n_folds = read_sources([mined])
    assert n_folds == 3
    assert versions_of(sources) == [0, 1]
    served = overlay(ITEMS, sources, -1)
    assert served["item_id"].to_list() == ["a", "b", "c"]
    assert served["engaged_queries"].to_list() == [["many", "few"], ["only"], None]
    # Only items that have a row of the version; an empty list stays empty and is not the served one.
    assert overlay(ITEMS, sources, 0).select("item_id", "engaged_queries").rows() == [("b", [])]
    assert overlay(ITEMS, sources, 1).select("item_id", "engaged_queries").rows() == [("a", ["few"])]


def test_own_entries_come_first_and_an_own_text_stays(tmp_path: Path, mined: Path) -> None:
    boards = [{"title": "new", "count": 99}, {"title": "newer", "count": 100}]
    rows = [
        {"item_id": "a", "text_version": -1, "boards": boards, "link_title": "found"},
        {"item_id": "c", "text_version": -1, "boards": boards[:1], "link_title": "found"},
    ]
    both, _ = read_sources([source(tmp_path / "boards", rows), mined])
    served = overlay(ITEMS, both, -1)
    assert served["boards"].to_list() == [["high", "low", "newer", "new"], [], ["new"]]
    assert served["link_title"].to_list() == ["own", None, "found"]
    # A version of one source goes with the served rows of the other.
    fold = overlay(ITEMS, both, 1)
    assert fold.select("item_id", "boards", "engaged_queries").rows() == [
        ("a", ["high", "low", "newer", "new"], ["few"])
    ]


def test_the_manifest_tells_the_folds_too(tmp_path: Path) -> None:
    rows = [{"item_id": "a", "text_version": 4, "captions": ["x"]}]
    folder = source(tmp_path / "m", rows, manifest={"counts": {"items": 1}, "config": {"n_folds": 5}})
    assert read_sources([folder])[1] == 5


@pytest.mark.parametrize(
    ("rows", "n_folds", "message"),
    [
        ([{"item_id": "a", "text_version": 2, "captions": ["x"]}], None, r"fields\.json: expected n_folds of text_version 0 to 2, found none"),
        ([{"item_id": "a", "text_version": 2, "captions": ["x"]}], 2, r"fields\.parquet: expected text_version from -1 to 1, found 2"),
        ([{"item_id": "a", "text_version": -2, "captions": ["x"]}], 2, r"expected text_version from -1 to 1, found -2"),
        ([{"item_id": "a", "text_version": -1, "captions": ["x"]}] * 2, None, r"expected one row an item and version, found a -1 more than once"),
        ([{"item_id": "a", "text_version": -1, "captions": 3}], None, r"expected captions as text or a list of texts, found Int64"),
        ([{"item_id": "a", "text_version": -1}], None, r"expected a field column beside item_id and text_version, found none"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], n_folds: int | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_sources([source(tmp_path / "wrong", rows, n_folds)])


def test_sources_that_do_not_agree_are_refused(tmp_path: Path, mined: Path) -> None:
    other = source(tmp_path / "other", [{"item_id": "a", "text_version": 0, "captions": ["x"]}], n_folds=5)
    expected = f"text: expected sources with one number of folds, found 3 in {mined}, 5 in {other}"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        read_sources([mined, other])
    text = source(tmp_path / "text", [{"item_id": "a", "text_version": -1, "boards": "one"}])
    with pytest.raises(DataError, match=r"expected boards as in the items \(List\(String\)\), found String"):
        overlay(ITEMS, read_sources([text])[0], -1)
