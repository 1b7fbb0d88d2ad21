from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pertinent.data.config import DataConfig
from pertinent.errors import DataError
from pertinent.pipeline import source
from pertinent.pipeline.source import source_files, source_hash


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with tables by their own names, some of them below or beside it, and a config that is no data."""
    folder = tmp_path / "shop"
    (folder / "sub").mkdir(parents=True)
    for name in ("items.csv", "sub/items.csv", "../beside.csv", "judgments.csv", "RATINGS.CSV", "notes.txt"):
        (folder / name).write_text("item_id\n1\n")
    (folder / "pertinent.yaml").write_text("name: shop\n")
    return folder


def config(folder: Path, **tables: str) -> DataConfig:
    return DataConfig.model_validate({"path": folder, **{stem: {"file": file} for stem, file in tables.items()}})


@pytest.mark.parametrize(
    ("tables", "changed", "counts"),
    [
        ({}, "items.csv", True),
        ({}, "judgments.csv", True),
        ({}, "notes.txt", False),
        ({}, "pertinent.yaml", False),
        ({}, "sub/items.csv", False),
        ({"items": "sub/items.csv"}, "sub/items.csv", True),
        ({"items": "sub/items.csv"}, "items.csv", False),
        ({"items": "../beside.csv"}, "../beside.csv", True),
        ({"judgments": "RATINGS.CSV"}, "RATINGS.CSV", True),
    ],
)
def test_the_hash_changes_with_the_files_that_are_read_and_no_others(
    shop: Path, tables: dict[str, str], changed: str, counts: bool
) -> None:
    before = source_hash(config(shop, **tables))
    (shop / changed).write_text("item_id\n2\n")
    assert (source_hash(config(shop, **tables)) != before) is counts


@pytest.mark.parametrize("name", ["dataset.yaml", "log.jsonl", "ITEMS.PARQUET"])
def test_a_new_file_that_would_be_read_counts(shop: Path, name: str) -> None:
    before = source_hash(config(shop))
    (shop / name).write_text("{}\n")
    assert source_hash(config(shop)) != before


def test_a_file_that_the_config_names_and_that_is_absent_is_left_to_the_reader(shop: Path) -> None:
    assert set(source_files(config(shop, items="nowhere.csv"))) == {"judgments.csv"}


def test_another_set_is_hashed_with_what_lies_below_it_but_not_with_its_own_runs(tmp_path: Path) -> None:
    folder = tmp_path / "homedepot"
    (folder / "more").mkdir(parents=True)
    (folder / "train.csv.gz").write_bytes(b"1")
    (folder / "more" / "COLOURS.CSV").write_bytes(b"1")
    (folder / "runs" / "a" / "data").mkdir(parents=True)
    (folder / "runs" / "a" / "data" / "items.parquet").write_bytes(b"1")
    known = DataConfig.model_validate({"reader": "homedepot", "path": folder})
    inside = folder / "runs"
    assert set(source_files(known, outside=[inside])) == {"train.csv.gz", "more/COLOURS.CSV"}
    # A folder that holds the source is no reason to skip the source.
    assert set(source_files(known, outside=[tmp_path, folder, inside])) == {"train.csv.gz", "more/COLOURS.CSV"}


def test_a_large_file_is_known_by_its_size_and_time(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_WHOLE_HASH_BYTES", 4)
    before = source_hash(config(shop))
    assert source_hash(config(shop)) == before
    (shop / "items.csv").write_text("item_id\n1\n2\n")
    assert source_hash(config(shop)) != before


def test_generated_data_is_known_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    pinboard = DataConfig.model_validate({"reader": "pinboard"})
    before = source_hash(pinboard)
    monkeypatch.setattr(source, "PINBOARD_VERSION", 99)
    assert source_hash(pinboard) == "pinboard-99" != before


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"path": tmp_path / "nowhere"}
    with pytest.raises(DataError, match=r"data\.path: no such folder"):
        source_hash(DataConfig.model_validate(wrong))
