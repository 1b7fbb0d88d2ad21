from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.data.columns import Column, ColumnConfig, Entry, open_column
from pertinent.errors import ConfigError, DataError

ITEMS = pl.DataFrame({"item_id": ["a", "b", "7"]})


def opened(folder: Path, frame: pl.DataFrame, column: str = "image", id_column: str = "item_id") -> Column:
    frame.write_parquet(folder / "table.parquet")
    return open_column(
        ColumnConfig(table=folder / "table.parquet", id_column=id_column),
        column,
        ITEMS,
        folder / "items.parquet",
        "key",
    )


def values(column: Column) -> list[tuple[int, int, str, str | bytes]]:
    return [(entry.row, entry.entry, entry.item_id, entry.value) for entry in column.entries(0, column.n_rows)]


def test_texts_of_the_items_themselves(tmp_path: Path) -> None:
    ITEMS.with_columns(image=pl.Series([" x.png ", None, ""])).write_parquet(tmp_path / "items.parquet")
    column = open_column(ColumnConfig(), "image", ITEMS, tmp_path / "items.parquet", "key")
    assert column.entries(0, 3) == [Entry(0, 0, "a", "x.png")]
    assert (column.file, column.table, column.n_rows) == ("items.parquet", None, 3)


def test_rows_keep_their_numbers_whatever_the_slice(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": [f"{k}" for k in (7, 1, 7, 7, 2)], "image": list("vwxyz")})
    column = opened(tmp_path, frame)
    assert [entry for start in range(5) for entry in column.entries(start, 1)] == column.entries(0, 5)
    assert values(column) == [(0, 0, "7", "v"), (2, 0, "7", "x"), (3, 0, "7", "y")]
    assert column.item_ids.null_count() == 2
    assert column.entries(4, 1) == []


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        ([b"1", None, b""], pl.Binary, [(0, 0, "a", b"1")]),
        ([["x", "", "y"], [], None], pl.List(pl.String), [(0, 0, "a", "x"), (0, 1, "a", "y")]),
        ([[b"1", b"2"], [], None], pl.List(pl.Binary), [(0, 0, "a", b"1"), (0, 1, "a", b"2")]),
        (
            ['["x", "y"]', "[no list", '["", 3]'],
            pl.String,
            [(0, 0, "a", "x"), (0, 1, "a", "y"), (1, 0, "b", "[no list")],
        ),
        (
            [{"bytes": b"1", "path": "x"}, {"bytes": None, "path": "y"}, {"bytes": None, "path": None}],
            pl.Struct({"bytes": pl.Binary, "path": pl.String}),
            [(0, 0, "a", b"1"), (1, 0, "b", "y")],
        ),
    ],
)
def test_each_form_of_value(tmp_path: Path, cells: list[Any], dtype: Any, expected: list[Any]) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b", "7"], "image": pl.Series(cells, dtype=dtype)})
    assert values(opened(tmp_path, frame)) == expected


def test_ids_of_another_type_and_name(tmp_path: Path) -> None:
    frame = pl.DataFrame({"sku": [7, 8], "image": ["x", "y"]})
    assert values(opened(tmp_path, frame, id_column="sku")) == [(0, 0, "7", "x")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "item_id,image\na,x\nb,y\n"),
        ("t.jsonl", '{"item_id": "a", "image": "x"}\n{"item_id": "b", "image": "y"}\n'),
    ],
)
def test_a_table_of_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    column = open_column(ColumnConfig(table=tmp_path / name), "image", ITEMS, tmp_path / "items.parquet", "key")
    assert values(column) == [(0, 0, "a", "x"), (1, 0, "b", "y")]


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a"], "image": ["x"], "size": [3]})
    with pytest.raises(
        ConfigError, match=r"^key: .*table.parquet has no column 'imag'; nearest present column: 'image'$"
    ):
        opened(tmp_path, frame, "imag")
    with pytest.raises(ConfigError, match=r"^key: expected 'size' to hold texts or bytes, found Int64$"):
        opened(tmp_path, frame, "size")
    with pytest.raises(DataError, match=r"table.parquet: missing column 'item'; nearest present column: 'item_id'$"):
        opened(tmp_path, frame, id_column="item")
    with pytest.raises(DataError, match=r"table.parquet: expected ids of items in 'image', found none, such as 'x'$"):
        opened(tmp_path, frame, id_column="image")
    for name, content, message in (
        ("none.parquet", None, r"none.parquet: no such file$"),
        ("bad.parquet", "no parquet", r"bad.parquet: not a readable Parquet file: "),
        ("bad.csv", "item_id,image\na,x\nb\n", r"bad.csv:3: row must have 2 fields, got 1$"),
        ("bad.txt", "x", r"bad.txt: expected a file ending in "),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message):
            open_column(ColumnConfig(table=tmp_path / name), "image", ITEMS, tmp_path / "items.parquet", "key")
