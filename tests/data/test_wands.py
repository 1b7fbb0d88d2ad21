from __future__ import annotations

from pathlib import Path

import pytest

from pertinent.data.guess import starter_config
from pertinent.data.importing import import_dataset
from pertinent.data.wands import is_wands
from pertinent.errors import DataError

LABELS = ("Exact", "Partial", "Irrelevant")


@pytest.fixture
def wands(tmp_path: Path) -> Path:
    """The three files of WANDS as published, small and made up; a quote and a comma within a field."""
    folder = tmp_path / "wands"
    folder.mkdir()
    queries = ["query_id\tquery\tquery_class", *(f"{q}\tquery {q}\tBeds" for q in range(60))]
    products = [
        "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features\trating_count\taverage_rating\treview_count",
        '0\t"a 12"" lamp, red"\tLamps\tHome / Lamps\tgood\tcolor : red|size : 12\t5.0\t4.5\t3.0',
        *(f"{k}\tproduct {k}\tLamps\tHome / Lamps\t\tcolor : red\t\t\t" for k in range(1, 9)),
    ]
    labels = ["id\tquery_id\tproduct_id\tlabel"]
    labels += [f"{q * 3 + k}\t{q}\t{(q + k) % 9}\t{LABELS[k]}" for q in range(60) for k in range(3)]
    for name, lines in (("query.csv", queries), ("product.csv", products), ("label.csv", labels)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_wands_is_read_with_its_grades_and_fields(wands: Path, build) -> None:
    dataset, quarantine, _ = build(wands, reader="wands")
    assert quarantine.is_empty()
    assert dataset.judgments.height == 180
    first = {
        row["item_id"]: row["grade"] for row in dataset.judgments.iter_rows(named=True) if row["query"] == "query 0"
    }
    assert first == {"0": 2, "1": 1, "2": 0}
    lamp = dataset.items.row(0, named=True)
    assert (lamp["title"], lamp["description"], lamp["numeric.average_rating"]) == ('a 12" lamp, red', "good", 4.5)
    assert lamp["product_features"] == ["color : red", "size : 12"]
    assert dataset.scale.n_grades == 3
    assert dataset.licence == "MIT"


def test_wands_is_imported_and_known_by_its_files(wands: Path, tmp_path: Path) -> None:
    assert is_wands(wands)
    result = import_dataset("wands", wands, tmp_path / "out")
    assert result.counts["judgments"] == 180
    assert "reader: wands" in starter_config(wands)


def test_a_label_of_an_unknown_query_is_set_aside(wands: Path, build) -> None:
    with (wands / "label.csv").open("a") as file:
        file.write("999\t777\t0\tExact\n1000\t0\t8\tExactly\n")
    dataset, quarantine, _ = build(wands, reader="wands")
    assert dataset.judgments.height == 180
    assert sorted(quarantine["reason"]) == [
        "grade must be one of Irrelevant, Partial, Exact, got Exactly",
        "query must not be empty",
    ]


@pytest.mark.parametrize("name", ["query.csv", "product.csv", "label.csv"])
def test_a_missing_file_is_named(wands: Path, build, name: str) -> None:
    (wands / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file: expected query.csv, product.csv, label.csv of WANDS"):
        build(wands, reader="wands")
