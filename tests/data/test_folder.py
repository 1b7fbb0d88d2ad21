"""A stranger's folder: messy CSV mapped by config, and every kind of bad input in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pertinent.config import parse_config
from pertinent.data.check import read_source
from pertinent.data.config import DataConfig
from pertinent.data.folder import DatasetDescription, ScaleDescription, read_description, write_description
from pertinent.errors import ConfigError, DataError
from pertinent.types import Scale

MESSY: dict[str, Any] = {
    "items": {"file": "Katalog 2024.csv", "columns": {"item_id": "SKU", "title": "Name", "numeric.price": "Price"}},
    "judgments": {
        "file": "ratings.csv",
        "encoding": "cp1252",
        "columns": {"query": "Search Term", "item_id": "Product", "grade": "Stars"},
        "grades": [1, 2, 3, 4],
    },
    "attributes": ["Colour"],
    "max_quarantined": 0.06,
}


def messy_folder(folder: Path) -> Path:
    """Semicolons and a byte order mark in one file, tabs and cp1252 in the other, quoted newlines, stray rows."""
    folder.mkdir()
    products = [f'{k};"Lamp {k}\nwith ""two"" lines; and more";red;{k}.5' for k in range(30)]
    catalogue = ["SKU;Name;Colour;Price", *products, "5;stray", "", products[3]]
    (folder / "Katalog 2024.csv").write_text("\ufeff" + "\r\n".join(catalogue), encoding="utf-8")
    ratings = [f"große lampe {q}\t{(q + k) % 30}\t{1 + (q * 3 + k) % 4}" for q in range(60) for k in range(3)]
    table = ["Search Term\tProduct\tStars", *ratings, ratings[0], "lampe\t3\t9", "lampe\t999\t2", "", "\t3\t2"]
    (folder / "ratings.csv").write_text("\n".join(table), encoding="cp1252")
    return folder


def test_a_messy_catalogue_and_judgments_in_other_names_are_read_whole(tmp_path: Path, build) -> None:
    dataset, quarantine, result = build(messy_folder(tmp_path / "shop"), **MESSY)
    assert dataset.name == "shop"
    assert dataset.items.height == 30
    assert dataset.items.row(7, named=True) == {
        "item_id": "7",
        "title": 'Lamp 7\nwith "two" lines; and more',
        "numeric.price": 7.5,
        "Colour": "red",
    }
    assert dataset.attributes == ("Colour",)
    assert dataset.scale == Scale.of_size(4)
    assert dataset.judgments.height == 180
    assert set(dataset.judgments["grade"]) == {0, 1, 2, 3}
    assert "große lampe 0" in set(dataset.judgments["query"])
    # The catalogue's header is line 1 and each of its 30 items fills two lines.
    assert quarantine.select("file", "line", "reason").rows() == [
        ("Katalog 2024.csv", 62, "row must have 4 fields, got 2"),
        ("ratings.csv", 183, "grade must be one of 1, 2, 3, 4, got 9"),
        ("ratings.csv", 184, "item_id must name a known item, got 999"),
        ("ratings.csv", 186, "query must not be empty"),
    ]
    assert quarantine["row"][1] == '{"Search Term":"lampe","Product":"3","Stars":"9"}'
    assert result.counts["duplicate_items"] == result.counts["duplicate_judgments"] == 1
    assert result.quarantined["grade must be one of 1, 2, 3, 4"] == 1


def test_a_wrong_encoding_is_refused_with_line_and_offset(tmp_path: Path, build) -> None:
    folder = messy_folder(tmp_path / "shop")
    with pytest.raises(DataError, match=r"ratings\.csv:2: expected utf-8 text, found byte 0xdf at offset 29; set"):
        build(folder, **{**MESSY, "judgments": {**MESSY["judgments"], "encoding": "utf-8"}})


@pytest.mark.parametrize(
    ("tables", "settings", "message"),
    [
        (
            {"judgments": "query,item,grade\nq,i1,2\n"},
            {},
            "judgments.csv: missing column 'item_id'; nearest present column: 'item'"
            " (map it in the config: data.judgments.columns: {item_id: item})",
        ),
        ({"items": "sku,title\n1,x\n"}, {"items": {"columns": {"item_id": "SKU"}}}, "nearest present column: 'sku'"),
        ({}, {"attributes": ["brand"]}, "items.csv: missing column 'brand'"),
        ({"items": ""}, {}, "items.csv: empty file"),
        ({"judgments": "query,item_id,grade\n"}, {}, "judgments.csv: no rows below the header"),
        (
            {"judgments": "query,item_id,grade\nq,i1,9\nq,i2,9\n"},
            {},
            "judgments.csv:2: grade must be one of 0, 1, 2, 3, 4, got 9; none of the 2 rows can be used, 2 for",
        ),
        (
            {"judgments": "query,item_id,grade\nq,x1,2\nq,x2,2\n"},
            {},
            "judgments.csv:2: item_id must name a known item, got x1; none of the 2 rows can be used, 2 for this"
            " reason; items.csv holds 'i0', for example",
        ),
        ({"items": "item_id\n \n \n"}, {}, "items.csv:2: item_id must not be empty; none of the 2 rows can be used"),
        (
            {"judgments": "query,item_id,grade\nq 0,i1,1\nq 0,i2,2\n"},
            {},
            "no judgments in split dev: expected at least",
        ),
        (
            {"judgments": "query,item_id,grade\n" + "".join(f"q {k},i1,2\n" for k in range(60))},
            {},
            "judgments.csv: expected at least two different grades in train, found only L3",
        ),
        ({}, {"judgments": {"file": "qrels.csv"}}, "qrels.csv: no such file"),
        ({}, {"log": {}}, "no such file: expected log.parquet"),
    ],
)
def test_bad_input_is_one_clear_line(write, build, tables, settings, message: str) -> None:
    with pytest.raises(DataError) as caught:
        build(write(**tables), **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_broken_rows_stop_the_stage_with_the_commonest_reason(write, build) -> None:
    folder = write(extra=["q 1,i1,7"] * 20 + ["q 1,zz,2"])
    with pytest.raises(DataError) as caught:
        build(folder)
    assert str(caught.value) == (
        "judgments.csv:242: grade must be one of 0, 1, 2, 3, 4, got 7; 21 of 261 rows (8.0%) break the contract, 20 for"
        " this reason, and at most 5.0% may (data.max_quarantined)"
    )
    dataset, quarantine, _ = build(folder, max_quarantined=0.1)
    assert dataset.judgments.height == 240
    assert quarantine.height == 21


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judgments": {"columns": {"qurey": "q"}}}, "data.judgments.columns: unknown name qurey; did you mean query?"),
        ({"guidelines": ["bad", "good"], "judgments": {"grades": [1, 2, 3]}}, "one for each of the 3 grades, found 2"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(write, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        read_source(parse_config(DataConfig, {"path": write(), **settings}, "data"), Path("unused"))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "path: missing; the folder reader needs the folder of the data set"),
        ({"path": ".", "judgments": {"grade": [1]}}, "unknown key judgments.grade; did you mean grades?"),
        ({"path": ".", "judgments": {"grades": [1]}}, "grades: expected at least 2 values, found 1"),
        ({"path": ".", "judgments": {"grades": [1, 1]}}, "grades: expected different values, found"),
        ({"path": ".", "judgments": {"grades": [1, 1.0]}}, "grades: expected different values, found [1, 1.0]"),
        ({"path": ".", "judgments": {"grades": [1, "01", 2]}}, "grades: expected different values, found [1, '01', 2]"),
        (
            {"path": ".", "judgments": {"grades": [True, "yes"]}},
            "grades: expected different values, found [True, 'yes'",
        ),
        ({"path": ".", "split": {"dev": 0}}, "split.dev: expected greater than 0, found 0"),
        ({"path": ".", "items": {"encoding": "utf-9"}}, "encoding: expected an encoding such as utf-8 or cp1252"),
        ({"path": ".", "items": {"delimiter": "::"}}, "delimiter: expected one character, found '::'"),
        ({"path": ".", "reader": "esci", "attributes": ["x"]}, "attributes: only the folder reader has it"),
        ({"path": ".", "guidelines": ["one"]}, "guidelines: expected at least 2 sentences, found 1"),
    ],
)
def test_a_wrong_config_names_the_key(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(DataConfig, tree, "my.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("reader", ["folder", "homedepot", "esci"])
def test_a_resolved_config_can_be_read_again(reader: str) -> None:
    config = parse_config(DataConfig, {"path": "x", "reader": reader}, "my.yaml")
    assert parse_config(DataConfig, config.model_dump(mode="json"), "again") == config


def test_two_files_for_one_table_are_refused(write, build) -> None:
    folder = write()
    (folder / "items.jsonl").write_text('{"item_id": 1}\n')
    with pytest.raises(DataError, match=r"expected one items file, found items\.jsonl and items\.csv; name it"):
        build(folder)


def test_dataset_yaml_gives_the_scale_the_names_of_the_grades_and_the_languages(write, build) -> None:
    rows = [f"q {q},i{q % 20},{('bad', 'fine')[q % 2]}" for q in range(60)]
    folder = write(judgments="\n".join(["query,item_id,grade", *rows]))
    (folder / "dataset.yaml").write_text(
        "name: my shop\nlicence: ours\nlanguages: [en]\n"
        "grades:\n  - {name: bad, guideline: Not it.}\n  - {name: fine, guideline: That is it.}\n"
    )
    dataset, _, _ = build(folder)
    assert (dataset.name, dataset.licence, dataset.languages) == ("my shop", "ours", ("en",))
    assert dataset.scale == Scale(("Not it.", "That is it."))
    assert set(dataset.judgments["grade"]) == {0, 1}
    assert set(dataset.judgments["language"]) == {"en"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: x\n", "unknown key nmae; did you mean name?"),
        ("scale: {guidelines: [a, b]}\ngrades: [{name: 1, guideline: a}, {name: 2, guideline: b}]\n", "found both"),
        ("grades: [{name: 1, guideline: a}, {name: 1.0, guideline: b}]\n", "grades: expected different values"),
        ("- a\n", "expected a mapping of keys, found a list"),
        ("scale: {guidelines: [a]}\n", "scale.guidelines"),
    ],
)
def test_a_wrong_dataset_yaml_is_bad_data(write, build, text: str, message: str) -> None:
    folder = write()
    (folder / "dataset.yaml").write_text(text)
    with pytest.raises(DataError) as caught:
        build(folder)
    assert str(caught.value).startswith(str(folder / "dataset.yaml"))
    assert message in str(caught.value)


def test_a_written_description_reads_back(tmp_path: Path) -> None:
    about = DatasetDescription(
        name="x", generated=True, languages=["ja"], scale=ScaleDescription(guidelines=["悪い", "良い"])
    )
    write_description(tmp_path, about)
    assert read_description(tmp_path) == about


def test_a_missing_folder_and_a_file_in_its_place_are_told(tmp_path: Path, build) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder \(data\.path\)"):
        build(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file: expected a folder, found a file \(data\.path\)"):
        build(tmp_path / "file")
