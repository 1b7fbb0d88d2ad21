from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl
import pytest

from pertinent.data.config import DataConfig
from pertinent.data.folder import read_folder
from pertinent.data.items import clean_items


def clean(
    folder: Path, rows: str | pl.DataFrame | list[dict[str, object]], **settings: object
) -> tuple[pl.DataFrame, list[tuple[int, str]], int]:
    if isinstance(rows, str):
        (folder / "items.csv").write_text(rows)
    elif isinstance(rows, list):
        (folder / "items.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    else:
        rows.write_parquet(folder / "items.parquet")
    (folder / "judgments.csv").write_text("query,item_id,grade\nq,a,1\n")
    frame, quarantine, counts = clean_items(
        read_folder(folder, DataConfig.model_validate({"path": folder, **settings}))
    )
    return frame, quarantine.select("line", "reason").rows(), counts["duplicate_items"]


FULL = {
    "item_id": "a",
    "title": " Lamp ",
    "description": "",
    "captions": ["one", "", " two "],
    "boards": [{"title": "Home", "count": 3}, {"title": "Light", "count": 1}],
    "engaged_queries": [{"query": "lamp", "weight": 0.5}],
    "numeric": {"price": 9.5, "stock": 3},
    "embedding": [0.5, -1.0],
    "language": "EN-us",
}
EMPTY = {"item_id": "b", "title": None, "captions": [], "boards": None, "numeric": {}, "embedding": None}


def expect_full(frame: pl.DataFrame) -> None:
    assert frame.columns == [
        "item_id", "title", "language", "captions", "boards", "engaged_queries",
        "numeric.price", "numeric.stock", "embedding",
    ]  # fmt: skip
    assert frame.schema["embedding"] == pl.List(pl.Float32)
    assert frame.schema["boards"] == pl.List(pl.Struct({"title": pl.String, "count": pl.Int64}))
    assert frame.row(0, named=True) == {
        "item_id": "a",
        "title": "Lamp",
        "language": "en-us",
        "captions": ["one", "two"],
        "boards": FULL["boards"],
        "engaged_queries": FULL["engaged_queries"],
        "numeric.price": 9.5,
        "numeric.stock": 3.0,
        "embedding": [0.5, -1.0],
    }
    assert set(frame.row(1)) == {"b", None}


def test_every_field_is_read_from_jsonl(tmp_path: Path) -> None:
    frame, quarantine, _ = clean(tmp_path, [FULL, EMPTY])
    expect_full(frame)
    assert quarantine == []


def test_every_field_is_read_from_parquet(tmp_path: Path) -> None:
    frame, quarantine, _ = clean(tmp_path, pl.DataFrame([FULL, {**EMPTY, "numeric": None}]))
    expect_full(frame)
    assert quarantine == []


def test_lists_in_csv_are_json_or_parted_by_the_separator(tmp_path: Path) -> None:
    text = 'item_id,captions,boards\na,one / two,"[""Home""]"\nb,"[""x"",""y/z""]",\n'
    frame, _, _ = clean(tmp_path, text, items={"list_separator": "/"})
    assert frame["captions"].to_list() == [["one", "two"], ["x", "y/z"]]
    assert frame["boards"].to_list() == [[{"title": "Home", "count": 1}], None]


def test_each_broken_item_is_quarantined_with_its_line_and_reason(tmp_path: Path) -> None:
    text = (
        'item_id,boards,numeric.price,embedding\na,,1.5,"[1,2]"\n,,,\nb,[oops,,\nc,"[{""name"":""x""}]",,\n'
        'd,,cheap,\ne,,inf,\nf,,nan,"[1,2,3]"\ng,,,"[1,""x""]"\nh,,NA,"[3,4]"\n'
    )
    frame, quarantine, _ = clean(tmp_path, text)
    assert frame["item_id"].to_list() == ["a", "h"]
    assert [line for line, _ in quarantine] == [3, 4, 5, 6, 7, 8, 9]
    reasons = dict(quarantine)
    assert reasons[3] == "item_id must not be empty"
    assert reasons[4].startswith("boards must be valid JSON, got [oops")
    assert reasons[5].startswith("boards must be a list of {title, count} objects, got ")
    assert reasons[6] == "numeric.price must be a finite number, got cheap"
    assert reasons[7] == "numeric.price must be a finite number, got inf"
    assert reasons[8] == "embedding must have 2 numbers as the first has, got 3"
    assert reasons[9] == "embedding must be a list whose every element is a number, got x"


def test_of_rows_with_one_id_the_first_is_kept(tmp_path: Path) -> None:
    text = "item_id,title\na,Lamp\nb,Chair\na,Lamp\na,Sofa\n"
    frame, quarantine, duplicates = clean(tmp_path, text)
    assert frame.rows() == [("a", "Lamp"), ("b", "Chair")]
    assert duplicates == 1
    assert quarantine == [(5, "item_id must be unique or its rows the same, got a with other content (line 2 is kept)")]


def test_attributes_are_kept_as_text_or_as_lists(tmp_path: Path) -> None:
    rows = [
        {"item_id": "a", "brand": " Acme ", "category": ["Home", "Light"], "left_out": 1},
        {"item_id": "b", "brand": "[x", "category": []},
    ]
    frame, _, _ = clean(tmp_path, rows, attributes=["brand", "category"])
    assert frame.to_dicts() == [
        {"item_id": "a", "brand": "Acme", "category": ["Home", "Light"]},
        {"item_id": "b", "brand": "[x", "category": None},
    ]


@pytest.mark.parametrize("ids", [[1, 2], [1.0, 2.0], ["1", "2"]])
def test_ids_of_any_type_are_text(tmp_path: Path, ids: list[object]) -> None:
    frame, _, _ = clean(tmp_path, pl.DataFrame({"item_id": ids}))
    assert frame["item_id"].to_list() == ["1", "2"]


def test_nan_in_a_parquet_column_is_a_missing_value(tmp_path: Path) -> None:
    frame, quarantine, _ = clean(tmp_path, pl.DataFrame({"item_id": ["a", "b"], "numeric.price": [1.0, float("nan")]}))
    assert frame["numeric.price"].to_list() == [1.0, None]
    assert quarantine == []
