from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pertinent.data.config import DataConfig
from pertinent.data.homedepot import read_homedepot
from pertinent.data.judgments import clean_judgments
from pertinent.errors import DataError


def make(folder: Path, relevances: list[str]) -> Path:
    train = "id,product_uid,product_title,search_term,relevance\n"
    train += "".join(f"{k},{100 + k},Title {k},q {k},{value}\n" for k, value in enumerate(relevances))
    files = {
        "train.csv.gz": train,
        "brandNameDf.csv.gz": ",product_uid,brand\n9,100.0,Acme\n",
        "df_color_processed.csv.gz": "product_uid,product_color\n100.0,White\n101.0,Red\n",
        "df_material_processed.csv.gz": "cnt,material,product_uid\n1,Steel,100.0\n1,Oak,100.0\n1.0,Steel,100.0\n",
    }
    for name, text in files.items():
        (folder / name).write_bytes(gzip.compress(text.encode()))
    return folder


# The mapping of mean ratings to grades as the publisher of this copy states it.
MEANS = {"1": 0, "1.25": 0, "1.33": 1, "1.5": 1, "1.67": 1, "1.75": 1, "2": 2, "2.25": 3, "2.33": 3, "2.5": 3,
         "2.67": 3, "2.75": 3, "3": 4}  # fmt: skip


def test_means_become_grades_by_the_stated_mapping(tmp_path: Path) -> None:
    config = DataConfig(reader="homedepot", path=make(tmp_path, list(MEANS)))
    source = read_homedepot(tmp_path, config)
    judgments, quarantine, _ = clean_judgments(source, source.items.frame()["item_id"], config.split)
    found = {row["item_id"]: row for row in judgments.to_dicts()}
    assert [found[f"{100 + k}"]["grade"] for k in range(len(MEANS))] == list(MEANS.values())
    for k, mean in enumerate(MEANS):
        assert found[f"{100 + k}"]["grade_mean"] == pytest.approx((float(mean) - 1) * 2, abs=1e-6)
    assert quarantine.is_empty()


def test_a_rating_off_its_scale_is_quarantined(tmp_path: Path) -> None:
    config = DataConfig(reader="homedepot", path=make(tmp_path, ["3", "4", "x"]))
    source = read_homedepot(tmp_path, config)
    assert source.judgments.broken.select("line", "reason").rows() == [
        (3, "relevance must be a number from 1 to 3, got 4"),
        (4, "relevance must be a number from 1 to 3, got x"),
    ]
    assert source.judgments.n_rows == 3


def test_attributes_join_by_uids_written_as_floats_and_repeats_are_joined(tmp_path: Path) -> None:
    source = read_homedepot(make(tmp_path, ["3", "2"]), DataConfig(reader="homedepot", path=tmp_path))
    rows = source.items.frame().select("item_id", "title", "brand", "color", "material").rows()
    assert rows == [("100", "Title 0", "Acme", "White", "Steel; Oak"), ("101", "Title 1", None, "Red", None)]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    make(tmp_path, ["3"])
    (tmp_path / "brandNameDf.csv.gz").unlink()
    with pytest.raises(DataError, match=r"brandNameDf\.csv\.gz: no such file"):
        read_homedepot(tmp_path, DataConfig(reader="homedepot", path=tmp_path))


def test_the_real_set_has_its_known_counts(real_data: Path, build) -> None:
    dataset, quarantine, result = build(real_data / "homedepot", reader="homedepot")
    # 66,255 rows and 10,570 search terms as written. "fence  mesh" and "fence mesh ", "slide  bolt" and "slide bolt "
    # are one query each: two queries fewer, and five products judged under both forms, always with another grade.
    assert result.counts["queries"] == 10_570 - 2
    assert result.counts["judgments"] == 66_255 - 5
    assert result.counts["conflicting_pairs"] == 5
    assert result.counts["items"] == 50_065
    assert quarantine.is_empty()
    assert {name: part["queries"] for name, part in result.counts["splits"].items()} == {
        "train": 8_312,
        "dev": 747,
        "test": 1_509,
    }
    assert set(dataset.judgments["language"]) == {"en"}
    assert dataset.items["brand"].null_count() < dataset.items.height * 0.3
