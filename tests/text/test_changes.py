from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.errors import DataError
from pertinent.files import write_json
from pertinent.text.changes import ChangesConfig, changed_items, changed_share

TEN = "one two three four five six seven eight nine ten"


def stage(folder: Path, rows: list[tuple[str, int, str, str]]) -> Path:
    """rows: item_id, text_version, title, rest of the text."""
    folder.mkdir()
    texts = [(item, version, title, f"title: {title} | body: {rest}") for item, version, title, rest in rows]
    schema = {"item_id": pl.String, "text_version": pl.Int8, "title": pl.String, "text": pl.String}
    frame = pl.DataFrame(texts, schema=schema, orient="row")
    frame.with_columns(text_hash=pl.col("text").hash().cast(pl.String)).write_parquet(folder / "items.parquet")
    write_json(folder / "text.json", {"n_folds": 2})
    return folder


def test_the_share_of_changed_words_is_that_worked_by_hand() -> None:
    assert changed_share("red oak sofa", "Sofa, red OAK!") == 0
    assert changed_share("red sofa", "blue chair") == 1
    # "red" goes and "blue", "big" come: 3 of the 3 + 4 words of both.
    assert changed_share("a red sofa", "a big blue sofa") == pytest.approx(3 / 7)
    assert changed_share("oak oak", "oak") == pytest.approx(1 / 3)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_the_share_is_between_0_and_1_and_the_same_both_ways(old: str, new: str) -> None:
    assert 0 <= changed_share(old, new) == changed_share(new, old) <= 1


def test_each_kind_of_change(tmp_path: Path) -> None:
    old = stage(tmp_path / "old", [
        ("gone", -1, "T", TEN), ("same", -1, "T", TEN), ("small", -1, "T", TEN), ("text", -1, "T", TEN),
        ("title", -1, "Red sofa", TEN), ("case", -1, "Red sofa", TEN),
    ])  # fmt: skip
    new = stage(tmp_path / "new", [
        ("new", -1, "T", TEN), ("same", -1, "T", TEN), ("small", -1, "T", TEN + " eleven"),
        ("text", -1, "T", TEN.replace("nine ten", "2 3 4 5 6")), ("title", -1, "Red couch", TEN), ("case", -1, "RED SOFA", TEN),
    ])  # fmt: skip
    found = {row["item_id"]: row for row in changed_items(old, new).to_dicts()}
    assert {item: (row["change"], row["needed"]) for item, row in found.items()} == {
        "gone": ("removed", False),
        "new": ("added", True),
        "small": ("small", False),
        "text": ("text", True),
        "title": ("title", True),
        "case": ("small", False),
    }
    # Tags and title are 3 words: 13 before, 14 after, 1 of the 27 changed; 2 + 5 of 13 + 16.
    assert found["small"]["share"] == pytest.approx(1 / 27, abs=1e-4)
    assert found["text"]["share"] == pytest.approx(7 / 29, abs=1e-4)
    assert list(found) == sorted(found)


def test_the_threshold_and_the_title_are_settings(tmp_path: Path) -> None:
    old = stage(tmp_path / "old", [("a", -1, "Red sofa", TEN)])
    new = stage(tmp_path / "new", [("a", -1, "Red couch", TEN)])
    share = changed_items(old, new)["share"][0]
    assert changed_items(old, new, ChangesConfig(title=False))["change"].to_list() == ["small"]
    at = changed_items(old, new, ChangesConfig(title=False, share=share))
    assert at.select("change", "needed").row(0) == ("text", True)


def test_an_item_counts_by_its_most_changed_version(tmp_path: Path) -> None:
    old = stage(tmp_path / "old", [("a", -1, "T", TEN), ("b", -1, "T", TEN), ("b", 0, "T", "other words")])
    new = stage(tmp_path / "new", [("a", -1, "T", TEN), ("a", 1, "T", "quite other words"), ("b", -1, "T", TEN)])
    found = changed_items(old, new)
    assert found.select("item_id", "change").rows() == [("a", "text"), ("b", "text")]
    assert found["share"].min() > 0.5  # type: ignore[operator]
    assert changed_items(new, new).is_empty()


def test_a_folder_without_a_text_stage_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing/items\.parquet: no such file"):
        changed_items(tmp_path / "nothing", tmp_path)
