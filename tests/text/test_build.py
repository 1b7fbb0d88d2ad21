from __future__ import annotations

import hashlib
import re
from pathlib import Path

import polars as pl
import pytest
from tokenizers import Tokenizer

from pertinent.data.splits import cross_folds
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_json
from pertinent.text.build import build_text
from pertinent.text.config import FieldConfig, TextConfig
from pertinent.text.item_texts import ItemTexts

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
        # Of the boards, the description says "Modern" already.
        "title: Red velvet sofa | description: Large modern sofa, red velvet | boards: Rustic"
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
    assert result.counts["parts_repeated"] == 1
    assert items["text_version"].to_list() == [-1, -1, -1]
    assert result.counts["version_rows"] == 0


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


def test_the_fields_of_a_source_are_read_and_each_fold_has_its_own_text(
    data: Path, tmp_path: Path, tiny_backbone: Path
) -> None:
    mined = tmp_path / "mine"
    mined.mkdir()
    rows = [
        ("a", -1, ["lounge", "den"]),
        ("a", 0, ["den"]),
        ("a", 1, ["lounge", "den"]),
        ("c", -1, ["desk"]),
        ("c", 0, []),
    ]
    schema = {"item_id": pl.String, "text_version": pl.Int8, "captions": pl.List(pl.String)}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(mined / "fields.parquet")
    write_json(mined / "fields.json", {"n_folds": 2})
    fields = config(title=8, captions=16)
    tokenizer_file = tiny_backbone / "tokenizer.json"
    result = build_text(fields, data, tmp_path, tokenizer_file=tokenizer_file, sources=[mined])
    items = pl.read_parquet(tmp_path / "items.parquet").select("item_id", "text_version", "text").rows()
    assert items == [
        # The data set's own captions come first.
        ("a", -1, "title: Red velvet sofa | captions: red sofa, velvet couch, lounge, den"),
        ("b", -1, ""),
        ("c", -1, "title: Oak table & chair | captions: desk"),
        ("a", 0, "title: Red velvet sofa | captions: red sofa, velvet couch, den"),
        ("c", 0, "title: Oak table & chair"),
    ]  # version 1 of a reads as the served one does: no row
    assert (result.counts["items"], result.counts["version_rows"]) == (3, 2)
    texts = ItemTexts.read(tmp_path)
    assert texts.n_folds == 2
    pairs = pl.DataFrame({"query": [f"q {k}" for k in range(9)], "item_id": ["c"] * 9, "split": ["train"] * 9})
    without = cross_folds(pairs["query"], 2) == 0
    found = ["captions" not in text for text in texts.of_pairs(pairs)]
    assert found == without.to_list()
    assert 0 < sum(found) < 9


def test_a_field_that_a_source_makes_and_none_reads_is_a_warning(
    data: Path, tmp_path: Path, tiny_backbone: Path
) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    made = pl.DataFrame({"item_id": ["b"], "text_version": pl.Series([-1], dtype=pl.Int8), "link_title": ["Shop"]})
    made.write_parquet(folder / "fields.parquet")
    tokenizer_file = tiny_backbone / "tokenizer.json"
    result = build_text(config(title=8), data, tmp_path, tokenizer_file=tokenizer_file, sources=[folder])
    assert result.warnings == ["text.fields: links makes link_title, which no field reads"]
    read = build_text(config(link_title=8), data, tmp_path, tokenizer_file=tokenizer_file, sources=[folder])
    assert pl.read_parquet(tmp_path / "items.parquet")["text"].to_list() == ["", "link title: Shop", ""]
    assert not read.warnings
