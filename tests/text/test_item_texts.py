from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pertinent.data.splits import cross_folds
from pertinent.errors import DataError
from pertinent.files import write_json
from pertinent.text.item_texts import ItemTexts

N_FOLDS = 3
QUERIES = [f"query {k}" for k in range(12)]
FOLDS = dict(zip(QUERIES, cross_folds(pl.Series(QUERIES), N_FOLDS).to_list(), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # Item a has a text for each fold, b for fold 1 alone, c none. A version stands before a served row here.
    rows = [
        ("a", 0, "a0"),
        ("b", -1, "b"),
        ("a", -1, "a"),
        ("c", -1, "c"),
        ("a", 1, "a1"),
        ("a", 2, "a2"),
        ("b", 1, "b1"),
    ]
    frame = pl.DataFrame(rows, schema={"item_id": pl.String, "text_version": pl.Int8, "text": pl.String}, orient="row")
    frame.write_parquet(tmp_path / "items.parquet")
    write_json(tmp_path / "text.json", {"n_folds": N_FOLDS})
    return tmp_path


def pairs_of(split: str) -> pl.DataFrame:
    rows = [(query, item, split) for query in QUERIES for item in ("a", "b", "c")]
    return pl.DataFrame(rows, schema=["query", "item_id", "split"], orient="row")


def test_a_training_pair_reads_the_version_of_its_querys_fold(folder: Path) -> None:
    texts = ItemTexts.read(folder)
    pairs = pairs_of("train")
    known = {"a0", "a1", "a2", "b1"}
    for query, item, text in zip(pairs["query"], pairs["item_id"], texts.of_pairs(pairs), strict=True):
        own = f"{item}{FOLDS[query]}"
        assert text == (own if own in known else item)
    assert set(FOLDS.values()) == {0, 1, 2}  # every fold was looked up


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_held_out_pair_reads_what_is_served(folder: Path, split: str) -> None:
    pairs = pairs_of(split)
    assert ItemTexts.read(folder).of_pairs(pairs) == pairs["item_id"].to_list()


def test_spellings_of_one_query_read_one_version(folder: Path) -> None:
    pairs = pl.DataFrame({"query": ["Query  1", "query 1"], "item_id": ["a", "a"], "split": ["train", "train"]})
    first, second = ItemTexts.read(folder).of_pairs(pairs)
    assert first == second == f"a{FOLDS['query 1']}"


def test_served_rows_come_first_and_rows_are_joined_in_order(folder: Path) -> None:
    texts = ItemTexts.read(folder)
    assert texts.served["text"].to_list() == ["b", "a", "c"]
    assert texts.rows["text_version"].to_list() == [-1, -1, -1, 0, 1, 2, 1]
    assert texts.of_items(["c", "b", "c"]) == ["c", "b", "c"]
    pairs = pairs_of("train").with_columns(grade=pl.int_range(36))
    joined = texts.joined(pairs)
    assert joined.columns == ["query", "item_id", "split", "grade", "text"]
    assert joined["text"].to_list() == texts.of_pairs(pairs)


def test_a_table_without_versions_has_one_text_an_item(folder: Path) -> None:
    served = pl.read_parquet(folder / "items.parquet").filter(pl.col("text_version") == -1).drop("text_version")
    served.write_parquet(folder / "items.parquet")
    (folder / "text.json").unlink()
    pairs = pairs_of("train")
    assert ItemTexts.read(folder).of_pairs(pairs) == pairs["item_id"].to_list()


def test_an_unknown_item_and_versions_without_folds_are_data_errors(folder: Path) -> None:
    with pytest.raises(DataError, match=r"items\.parquet: expected every item of the pairs, found no nobody$"):
        ItemTexts.read(folder).of_items(["a", "nobody"])
    with pytest.raises(DataError, match=r"items\.parquet: "):
        ItemTexts.read(folder, ["text_hash"])
    write_json(folder / "text.json", {"n_folds": None})
    with pytest.raises(DataError, match=r"text\.json: expected n_folds of the text versions, found None"):
        ItemTexts.read(folder)
