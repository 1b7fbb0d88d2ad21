from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml

from pertinent.config import parse_config
from pertinent.data.config import DataConfig
from pertinent.data.guess import order_grades, starter_config
from pertinent.data.validate import validate_dataset
from pertinent.errors import DataError
from pertinent.pipeline import load_run_config


def guessed(folder: Path) -> tuple[str, dict[str, Any]]:
    """The starter config's text and its data section, checked to be a valid config whose data is fit for use."""
    text = starter_config(folder)
    tree = yaml.safe_load(text)
    config = parse_config(DataConfig, {**tree["data"], "path": folder}, "starter")
    report = validate_dataset(config)
    assert report.ok, report.problems
    return text, tree["data"]


def shop(folder: Path) -> Path:
    """A German shop: no usual column name anywhere, semicolons and cp1252 in the catalogue."""
    folder.mkdir()
    rows = [f"A{k:03};Lampe Größe {k};{'rot' if k % 2 else 'grün'};{k}.5" for k in range(40)]
    catalogue = "\n".join(["Artikelnr;Bezeichnung;Farbe;Preis", *rows])
    (folder / "stamm.csv").write_text(catalogue, encoding="cp1252")
    ratings = [
        f"lampe {q},A{(q + k) % 40:03},{1 + (q + k) % 4},{('web', 'app')[q % 2]}" for q in range(80) for k in range(4)
    ]
    (folder / "noten.csv").write_text("\n".join(["Suchbegriff,Artikelnr,Note,Quelle", *ratings, "lampe 3,A001,9,web"]))
    (folder / "notes.txt").write_text("not a table")
    return folder


def test_a_folder_with_unusual_names_is_guessed_from_its_content(tmp_path: Path) -> None:
    text, data = guessed(shop(tmp_path / "my shop"))
    assert yaml.safe_load(text)["name"] == "my-shop"
    assert data["path"] == "."
    assert data["items"] == {
        "file": "stamm.csv",
        "delimiter": ";",
        "encoding": "cp1252",
        "columns": {"item_id": "Artikelnr", "title": "Bezeichnung", "numeric.Preis": "Preis"},
    }
    assert data["attributes"] == ["Farbe"]
    assert data["judgments"] == {
        "file": "noten.csv",
        "columns": {"query": "Suchbegriff", "item_id": "Artikelnr", "grade": "Note"},
        "grades": [1, 2, 3, 4],
    }
    assert "CHECK: 9 is rare and far from the others, taken for a mistake" in text
    assert "CHECK: no column has a usual name; Note holds few different values" in text
    assert "CHECK: it is not UTF-8" in text
    assert "# not used: Quelle" in text


def test_usual_names_are_mapped_without_doubt(tmp_path: Path) -> None:
    products = "\n".join(["id,product_name,desc,brand", *(f"{k},Lamp {k},A lamp,B{k % 3}" for k in range(20))])
    (tmp_path / "products.csv.gz").write_bytes(gzip.compress(products.encode()))
    rows = [f'{{"search_term": "q {q}", "product_id": {(q + k) % 20}, "label": "{"ISCE"[k]}", "rater": "r{k}"}}'
            for q in range(60) for k in range(4)]  # fmt: skip
    (tmp_path / "labels.jsonl").write_text("\n".join(rows))
    events = "\n".join(["ts,query,product_id,event_type", *(f"2024-01-0{k},q {k},{k},click" for k in range(1, 9))])
    (tmp_path / "events.csv").write_text(events)
    text, data = guessed(tmp_path)
    assert data["items"]["columns"] == {"item_id": "id", "title": "product_name", "description": "desc"}
    assert data["attributes"] == ["brand"]
    assert data["judgments"]["columns"] == {
        "query": "search_term",
        "item_id": "product_id",
        "grade": "label",
        "rater_id": "rater",
    }
    assert data["judgments"]["grades"] == ["I", "C", "S", "E"]
    assert data["log"] == {
        "file": "events.csv",
        "columns": {"query": "query", "item_id": "product_id", "action": "event_type", "timestamp": "ts"},
    }
    assert text.count("CHECK:") == 3  # the line at the top, the attributes and the languages


def test_our_own_names_are_found(write) -> None:
    _, data = guessed(write(log="query,item_id,action\nq 1,i1,click\n"))
    assert data["judgments"]["columns"] == {"query": "query", "item_id": "item_id", "grade": "grade"}
    assert data["judgments"]["grades"] == [0, 1, 2, 3, 4]


def test_the_scale_of_dataset_yaml_is_left_where_it_is(write) -> None:
    folder = write()
    (folder / "dataset.yaml").write_text("scale: {guidelines: [a, b, c, d, e]}\n")
    text, data = guessed(folder)
    assert "grades" not in data["judgments"]
    assert "The 5 grades and their guidelines are in dataset.yaml." in text


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("_shop", "shop"),
        ("Größe", "Grosse"),
        ("店", "my-search"),
        ("-.x y.", "x-y"),
        ("Año 2024", "Ano-2024"),
        ("_", "my-search"),
    ],
)
def test_the_name_of_any_folder_gives_a_name_that_loads(tmp_path: Path, folder: str, name: str) -> None:
    made = shop(tmp_path / folder)
    (made / "pertinent.yaml").write_text(starter_config(made), encoding="utf-8")
    assert load_run_config(made / "pertinent.yaml").name == name


def test_the_languages_are_those_of_the_columns_or_a_line_to_fill_in(write) -> None:
    rows = [f"q {q},i{q % 20},{q % 5},{('EN', 'de')[q % 2]}" for q in range(60)]
    text, data = guessed(write(judgments="\n".join(["query,item_id,grade,lang", *rows])))
    assert data["languages"] == ["de", "en"]
    assert "languages: [de, en]  # CHECK:" in text
    text, data = guessed(write())
    assert "languages" not in data
    assert "  # languages: [en]  # CHECK: " in text
    (write() / "dataset.yaml").write_text("languages: [en]\n")
    assert "languages:" not in starter_config(write())


def test_queries_that_are_all_numbers_are_found_by_their_name(write) -> None:
    rows = [f"{4000 + q},i{q % 20},{q % 5}" for q in range(80)]
    _, data = guessed(write(judgments="\n".join(["query,item_id,grade", *rows])))
    assert data["judgments"]["columns"] == {"query": "query", "item_id": "item_id", "grade": "grade"}


def test_the_id_of_a_search_in_a_log_is_no_id_of_a_query(write) -> None:
    _, data = guessed(write(log="query_id,query,item_id,action\nu-1,q 1,i1,click\nu-2,q 1,i1,click\n"))
    assert data["log"]["columns"] == {
        "query": "query",
        "item_id": "item_id",
        "action": "action",
        "search_id": "query_id",
    }


@pytest.mark.parametrize(
    ("values", "grades", "doubt"),
    [
        ({"1": 5, "2": 5, "4": 5}, [1, 2, 3, 4], "3 not seen"),
        ({"0": 500, "1": 500, "-1": 3}, [-1, 0, 1], ""),
        ({"1": 900, "2": 900, "99": 1}, [1, 2], "99 is rare"),
        ({"Exact": 1, "Irrelevant": 1}, ["Irrelevant", "Exact"], ""),
        ({"relevant": 1, "not relevant": 1}, ["not relevant", "relevant"], ""),
        ({"yes": 1, "no": 1}, ["no", "yes"], ""),
        ({"zeta": 1, "alpha": 1}, ["alpha", "zeta"], "order unknown"),
        ({"1.33": 1, "2": 1, "3": 1}, [1.33, 2.0, 3.0], "not whole"),
    ],
)
def test_grades_are_ordered_from_worst_to_best(values: dict[str, int], grades: list[Any], doubt: str) -> None:
    found, doubts = order_grades(values)
    assert found == grades
    assert doubt in "; ".join(doubts)
    assert bool(doubts) == bool(doubt)


def test_yes_and_no_survive_yaml(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\n" + "".join(f"i{k}\n" for k in range(20)))
    rows = [f"q {q},i{q % 20},{('no', 'yes')[q % 2]}" for q in range(60)]
    (tmp_path / "judgments.csv").write_text("\n".join(["query,item_id,relevant", *rows]))
    _, data = guessed(tmp_path)
    assert data["judgments"]["grades"] == ["no", "yes"]


def test_a_folder_without_items_and_judgments_is_refused_with_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no table"):
        starter_config(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"found a\.csv \(x, y\)"):
        starter_config(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        starter_config(tmp_path / "nowhere")


def test_an_unreadable_table_is_mentioned(write) -> None:
    folder = write()
    (folder / "empty.csv").write_text("")
    text, _ = guessed(folder)
    assert "# Not read: " in text
    assert "empty.csv: empty file" in text


def test_a_known_set_gets_its_reader(real_data: Path) -> None:
    assert yaml.safe_load(starter_config(real_data / "homedepot"))["data"] == {"reader": "homedepot", "path": "."}
    assert yaml.safe_load(starter_config(real_data / "esci_us_small"))["data"] == {"reader": "esci", "path": "."}
