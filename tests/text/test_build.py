from __future__ import annotations

import hashlib
import re
from pathlib import Path

import polars as pl
import pytest
from tokenizers import Tokenizer

from pertinent.errors import ConfigError, DataError
from pertinent.files import write_json
from pertinent.text.build import build_text
from pertinent.text.config import FieldConfig, TextConfig

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["Red <b>velvet</b> sofa", None, "Oak table &amp; chair"],
        "description": ["Large modern sofa, red velvet", "", None],
        "captions": [["red sofa", "velvet couch"], None, []],
        "boards": [[{"title": "Modern", "count": 3}, {"title": "Rustic", "count": 9}], None, None],
        "color": ["red", None, "green"],
        "language": ["en", None, "de"],
    }
)
FIELDS = {"title": 32, "description": 24, "boards": 16, "captions": 16, "color": 8}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    ITEMS.write_parquet(folder / "items.parquet")
    judgments = {"query_id": ["q"], "query": ["sofa"], "item_id": ["a"], "grade": [1], "split": ["train"]}
    pl.DataFrame(judgments).write_parquet(folder / "judgments.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en"], "attributes": ["color"]}
    write_json(folder / "dataset.json", {**about, "scale": {"guidelines": ["bad", "good"]}})
    return folder


def config(max_tokens: int = 80, **fields: int) -> TextConfig:
    named = tuple(FieldConfig(name=name, tokens=tokens) for name, tokens in (fields or FIELDS).items())
    return TextConfig(fields=named, max_tokens=max_tokens)


def test_the_text_of_each_item_is_what_the_fields_say(data: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    result = build_text(config(), data, tmp_path, tokenizer_file=tiny_backbone / "tokenizer.json")
    items = pl.read_parquet(tmp_path / "items.parquet")
    first = (
        "title: Red velvet sofa | description: Large modern sofa, red velvet | boards: Rustic, Modern"
        " | captions: red sofa, velvet couch | color: red"
    )
    assert items["item_id"].to_list() == ["a", "b", "c"]
    assert items["text"].to_list() == [first, "", "title: Oak table & chair | color: green"]
    assert items["title"].to_list() == ["Red velvet sofa", "", "Oak table & chair"]
    assert items["body"][0] == "Large modern sofa, red velvet Rustic Modern red sofa velvet couch red"
    assert items["text_hash"][0] == hashlib.sha256(first.encode()).hexdigest()[:16]
    assert items["language"].to_list() == ["en", None, "de"]
    assert (result.counts["items"], result.counts["items_without_text"]) == (3, 1)
    assert result.counts["items_cut"] == 0


@pytest.mark.parametrize("max_tokens", [12, 20, 40, 80])
def test_no_text_is_longer_than_the_budget_by_the_tokenizers_own_count(
    data: Path, tmp_path: Path, tiny_backbone: Path, max_tokens: int
) -> None:
    build_text(config(max_tokens), data, tmp_path, tokenizer_file=tiny_backbone / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tiny_backbone / "tokenizer.json"))
    for row in pl.read_parquet(tmp_path / "items.parquet").iter_rows(named=True):
        n_tokens = len(tokenizer.encode(row["text"], add_special_tokens=False).ids)
        assert row["n_tokens"] <= max_tokens
        assert n_tokens <= max_tokens + row["text"].count(" | ")


def test_cut_items_are_counted_and_their_title_and_body_stay_whole(
    data: Path, tmp_path: Path, tiny_backbone: Path
) -> None:
    result = build_text(config(8), data, tmp_path, tokenizer_file=tiny_backbone / "tokenizer.json")
    items = pl.read_parquet(tmp_path / "items.parquet")
    assert result.counts["items_cut"] == items.filter(pl.col("n_cut") > 0).height == 2
    assert items["body"][0].startswith("Large modern sofa, red velvet Rustic")


def test_a_field_that_the_items_lack_is_a_warning_where_others_are_there(
    data: Path, tmp_path: Path, tiny_backbone: Path
) -> None:
    tokenizer_file = tiny_backbone / "tokenizer.json"
    result = build_text(config(title=8, material=8), data, tmp_path, tokenizer_file=tokenizer_file)
    assert result.warnings == ["text.fields: the items have no column material"]
    assert result.counts["fields"] == ["title"]
    # The default lists every standard field: it says nothing of those that are absent.
    assert build_text(TextConfig(), data, tmp_path, tokenizer_file=tokenizer_file).warnings == []


def test_fields_that_are_all_unknown_are_a_config_error(data: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    expected = (
        "text.fields: expected at least one column of the items (title, description, captions, boards, color, "
        "language), found material, maker"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        build_text(config(material=8, maker=8), data, tmp_path, tokenizer_file=tiny_backbone / "tokenizer.json")


def test_items_without_any_text_are_a_data_error(data: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    ITEMS.with_columns(title=pl.lit("<br>")).write_parquet(data / "items.parquet")
    with pytest.raises(DataError, match="expected some text in title, found none in any item"):
        build_text(config(title=8), data, tmp_path, tokenizer_file=tiny_backbone / "tokenizer.json")


def test_attributes_are_read_where_the_config_names_no_fields(data: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    result = build_text(TextConfig(), data, tmp_path, tokenizer_file=tiny_backbone / "tokenizer.json")
    assert result.counts["fields"] == ["title", "description", "captions", "boards", "color"]
    assert pl.read_parquet(tmp_path / "items.parquet")["text"][2] == "title: Oak table & chair | color: green"
    assert not result.warnings  # that other default fields are absent is no news
