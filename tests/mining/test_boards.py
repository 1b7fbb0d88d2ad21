"""Board titles: of one wording one title, counted by users; generic, private and lonely ones left out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from pertinent.config import parse_config
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_json
from pertinent.mining.boards import NO_VALUE, NO_WORD, PRIVATE, UNKNOWN_ITEM, UNREADABLE, mine_boards, title_key
from pertinent.mining.config import BoardsConfig
from pertinent.types import StageResult

Saves = list[tuple[str | None, str | None, str | None]]


def run(folder: Path, saves: Saves | Path, **config: Any) -> tuple[StageResult, dict[str, list[tuple[str, int]]]]:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    pl.DataFrame({"item_id": [f"i{k}" for k in range(9)]}).write_parquet(folder / "items.parquet")
    file = saves if isinstance(saves, Path) else folder / "boards.parquet"
    if not isinstance(saves, Path):
        pl.DataFrame(saves, schema=["item_id", "title", "user"], orient="row").write_parquet(file)
    result = mine_boards(BoardsConfig(path=file, threads=1, **config), folder, out, seed=0)
    fields = pl.read_parquet(out / "fields.parquet")
    assert fields.schema["boards"] == pl.List(pl.Struct({"title": pl.String, "count": pl.Int64}))
    assert fields.schema["text_version"] == pl.Int8
    assert fields["text_version"].unique().to_list() in ([-1], [])
    return result, {item: [(b["title"], b["count"]) for b in boards] for item, _, boards in fields.iter_rows()}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Living Room Ideas!", "ideas:  living rooms", True),
        ("Café", "ｃａｆé", True),
        ("mom's kitchen", "Moms kitchens", True),
        ("red RED dress", "Dress, red", True),
        ("glass", "glas", False),
        ("bus", "bu", False),
        ("red dress", "red dress 2", False),
        ("cats", "cat", True),
        ("gas", "ga", False),
        ("猫", "犬", False),
        ("!!! ✨", "", True),
    ],
)
def test_titles_of_near_identical_wording_are_one(first: str, second: str, same: bool) -> None:
    assert (title_key(first) == title_key(second)) is same


def test_titles_are_counted_by_users_and_shown_as_most_write_them(tmp_path: Path) -> None:
    saves: Saves = [("i0", "Living Room Ideas", f"u{k}") for k in range(3)]
    saves += [("i0", "ideas living rooms!", "u3"), ("i0", "living room ideas", "u0"), ("i0", "Living Room Ideas", "u0")]
    saves += [("i0", "Sofas", f"u{k}") for k in range(2)] + [
        ("i1", "Sofa", "u9"),
        ("i1", "Sofa", "u8"),
        ("i1", "Sofa", "u7"),
    ]
    saves += [("i1", "lonely", "u1")]
    result, found = run(tmp_path, saves)
    assert found == {"i0": [("Living Room Ideas", 4), ("Sofa", 2)], "i1": [("Sofa", 3)]}
    assert result.counts["wordings"] == {"seen": 3, "too_few_users": 1, "generic": 0, "kept": 2}
    assert run(tmp_path, saves, k=1)[1]["i1"] == [("Sofa", 3), ("lonely", 1)]
    assert run(tmp_path, saves, max_titles=1)[1]["i0"] == [("Living Room Ideas", 4)]
    shuffled = random.Random(0).sample(saves, len(saves))
    assert run(tmp_path, shuffled)[1] == found


def test_a_title_of_every_other_board_is_generic_by_its_inverse_board_frequency(tmp_path: Path) -> None:
    saves: Saves = [(f"i{k % 9}", "My stuff" if k % 2 else "my STUFF", f"u{k}") for k in range(30)]
    saves += [("i0", f"topic {k % 35}", f"u{k}") for k in range(70)]
    # 100 boards: "my stuff" on 30 (ln(100/30) = 1.2), each topic on 2 (ln 50 = 3.9).
    result, found = run(tmp_path, saves, generic_boards=30, generic_share=0.29, max_titles=100)
    assert result.counts["boards"] == 100
    assert result.counts["generic_titles"] == [{"title": "My stuff", "users": 30}]
    assert list(found) == ["i0"]
    assert len(found["i0"]) == 35
    for kept in ({"generic_share": 0.3, "generic_boards": 30}, {"generic_share": 0.29, "generic_boards": 31}):
        assert "i1" in run(tmp_path, saves, **kept)[1]


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    saves: Saves = [
        ("i0", "Red", "u1"),
        (" i0 ", " red ", "u2"),
        ("gone", "Red", "u1"),
        (None, "Red", "u1"),
        ("i0", "", "u1"),
    ]
    saves += [
        ("i0", "Red", None),
        ("i0", "✨✨", "u1"),
        ("i0", "me@mail.example", "u1"),
        ("i0", "me@mail.example", "u2"),
    ]
    result, found = run(tmp_path, saves)
    assert found == {"i0": [("Red", 2)]}
    assert result.quarantined == {NO_VALUE: 3, UNKNOWN_ITEM: 1, NO_WORD: 1, PRIVATE: 2}
    assert result.counts["rows"] == {"seen": 9, "dropped": 7, "kept": 2}
    with pytest.raises(DataError, match="expected rows that can be used, found none of 1: item_id names no known item"):
        run(tmp_path, saves[2:3])


def test_csv_and_jsonl_are_read_alike(tmp_path: Path) -> None:
    saves = [("i0", 'a "quoted", title', "u1"), ("i0", 'a "quoted", title', "u2")]
    frame = pl.DataFrame(saves, schema=["pin", "title", "user"], orient="row")
    frame.write_csv(tmp_path / "boards.csv")
    (tmp_path / "b.jsonl").write_bytes(b"\n".join([*map(orjson.dumps, frame.to_dicts()), b"broken", b"[]"]))
    for name, broken in (("boards.csv", {}), ("b.jsonl", {UNREADABLE: 2})):
        result, found = run(tmp_path, tmp_path / name, columns={"item_id": "pin"})
        assert found == {"i0": [('a "quoted", title', 2)]}
        assert result.quarantined == broken
    with pytest.raises(DataError, match=r"boards\.csv: expected a column 'item_id' \(item_id\), found none; nearest: "):
        run(tmp_path, tmp_path / "boards.csv")


def test_the_file_is_found_in_the_dataset_folder_that_the_data_came_from(tmp_path: Path) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    data.mkdir()
    (data / "out").mkdir()
    pl.DataFrame({"item_id": ["i0"]}).write_parquet(data / "items.parquet")
    with pytest.raises(DataError, match=r"name the file \(boards\.path\)"):
        mine_boards(BoardsConfig(), data, data / "out", seed=0)
    write_json(data / "manifest.json", {"config": {"path": str(source)}})
    with pytest.raises(DataError, match=r"source: expected one file boards\.parquet, \.csv or \.jsonl, found none"):
        mine_boards(BoardsConfig(), data, data / "out", seed=0)
    (source / "boards.csv").write_text("item_id,title,user\ni0,Red,u1\ni0,red,u2\n")
    mine_boards(BoardsConfig(), data, data / "out", seed=0)
    boards = pl.read_parquet(data / "out" / "fields.parquet")["boards"].to_list()
    assert boards == [[{"title": "Red", "count": 2}]]
    (source / "boards.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"found boards\.jsonl and boards\.csv"):
        mine_boards(BoardsConfig(), data, data / "out", seed=0)


def test_a_column_that_boards_do_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="columns: expected some of item_id, title, user, found board"):
        parse_config(BoardsConfig, {"columns": {"board": "x"}}, "boards.yaml")
