from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from pertinent.data import pinboard
from pertinent.data.build import build_dataset, load_dataset
from pertinent.data.config import DataConfig
from pertinent.data.splits import split_of
from pertinent.errors import DataError
from pertinent.files import read_json
from pertinent.types import Scale


def test_the_canonical_folder_holds_what_the_source_says(write, build, tmp_path: Path) -> None:
    dataset, quarantine, result = build(write())
    assert read_json(tmp_path / "out" / "dataset.json") == {
        "name": "source",
        "generated": False,
        "note": "",
        "licence": "",
        "languages": [],
        "attributes": [],
        "split": {"test": 0.14, "dev": 0.07, "by": "text"},
        "scale": {"guidelines": list(Scale().guidelines)},
    }
    assert dataset.log is None
    assert quarantine.is_empty()
    assert quarantine.schema == {"file": pl.String, "line": pl.Int64, "reason": pl.String, "row": pl.String}
    assert result.counts["items"] == 20
    assert result.counts["judgments"] == 240
    assert result.counts["queries"] == 60
    assert {split: part["queries"] for split, part in result.counts["splits"].items()} == {
        split: sum(split_of(f"q {k}") == split for k in range(60)) for split in ("train", "dev", "test")
    }
    assert sum(result.counts["grades"].values()) == 240


def test_no_query_stands_in_two_splits(write, build) -> None:
    dataset, _, _ = build(write(extra=["Q  7,i1,2", "q 7 ,i2,2"]))
    assert dataset.judgments.group_by("query_id").agg(pl.col("split").n_unique())["split"].max() == 1


def test_a_second_build_replaces_the_first_and_its_log(write, build, tmp_path: Path) -> None:
    folder = write(log="query,item_id,action\nq 1,i1,click\n")
    first, _, _ = build(folder)
    assert first.log is not None
    (folder / "log.csv").unlink()
    second, _, _ = build(folder)
    assert second.log is None
    assert second.judgments.equals(first.judgments)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset.json",
        "items.parquet",
        "judgments.parquet",
        "quarantine.parquet",
    ]


def test_growth_moves_no_query(write, build) -> None:
    before, _, _ = build(write())
    after, _, _ = build(write(extra=[f"new {k},i{k % 20},{k % 5}" for k in range(50)]))
    both = before.judgments.join(after.judgments, on=["query_id", "item_id"], how="left")
    assert both["split"].to_list() == both["split_right"].to_list()


def test_a_warning_names_a_grade_without_judgments(write, build) -> None:
    _, _, result = build(write(), guidelines=[f"Grade {k}." for k in range(6)])
    assert list(result.warnings) == ["no judgment has grade L6"]


def test_warnings_name_what_the_rules_did(write, build) -> None:
    rows = [f"q {k},i{k % 20},{k % 5},{('test', 'train')[k % 3 > 0]},{k}" for k in range(60)]
    judgments = ["query,item_id,grade,split,query_id", *rows, "q 1,i1,4,train,1001"]
    items = ["item_id,title,engaged_queries", 'i0,Lamp,"[""Q 3""]"', *(f"i{k},Title," for k in range(1, 20))]
    _, _, result = build(write(items="\n".join(items), judgments="\n".join(judgments)))
    assert list(result.warnings) == [
        "1 pairs had conflicting grades; their mean is used",
        "1 queries stood under several values of query_id; the first of each is used",
        f"the data set's own split has no dev: {result.counts['dev_from_train']} of its training queries are dev, by their hash",
        "1 engaged queries of items are judged dev or test queries; they are left out",
    ]


@pytest.mark.parametrize("form", ["csv", "crlf", "csv.gz", "utf-16", "tsv", "jsonl", "parquet"])
def test_queries_and_titles_that_are_numbers_are_texts_in_every_form(write, build, tmp_path: Path, form: str) -> None:
    expected, _, _ = build(numbers(write(), "plain"))
    dataset, quarantine, result = build(
        numbers(write(), form), **({"judgments": {"encoding": "utf-16"}} if form == "utf-16" else {})
    )
    assert dataset.judgments.equals(expected.judgments)
    assert dataset.judgments["query"].str.contains(r"^\d+$").all()
    assert dataset.items["title"].to_list() == [str(1000 + k) for k in range(20)]
    assert quarantine.is_empty()
    assert result.counts["judgments"] == 240


def numbers(folder: Path, form: str) -> Path:
    """Items of numbers as titles, and judgments of numbers as queries and item ids, written in one of many forms."""
    (folder / "items.csv").write_text("\n".join(["item_id,title", *(f"{k},{1000 + k}" for k in range(20))]))
    rows = [(4000 + q, (q * 3 + k) % 20, (q + k) % 5) for q in range(60) for k in range(4)]
    frame = pl.DataFrame(rows, schema=["query", "item_id", "grade"], orient="row")
    for old in folder.glob("judgments.*"):
        old.unlink()
    text = frame.write_csv()
    if form == "parquet":
        frame.with_columns(pl.col("item_id").cast(pl.Float64)).write_parquet(folder / "judgments.parquet")
    elif form == "jsonl":
        (folder / "judgments.jsonl").write_text(frame.write_ndjson(), encoding="utf-8-sig")
    elif form == "tsv":
        (folder / "judgments.tsv").write_text(text.replace(",", "\t"), encoding="utf-8-sig")
    elif form == "csv.gz":
        (folder / "judgments.csv.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode("utf-8-sig")))
    else:
        encoding = {"plain": "utf-8", "csv": "utf-8-sig", "crlf": "utf-8", "utf-16": "utf-16"}[form]
        (folder / "judgments.csv").write_bytes(text.replace("\n", "\r\n" if form == "crlf" else "\n").encode(encoding))
    return folder


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json: no such file"):
        load_dataset(tmp_path)
    for name in ("items", "judgments"):
        pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "dataset.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match=r"not written by this version"):
        load_dataset(tmp_path)


def test_pinboard_is_generated_into_the_stage_folder_and_read_as_a_folder(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in for the generator: what is tested here is how it is called and read.
    source = write()
    seeds: list[int] = []

    def generate_pinboard(out: Path, seed: int, size: object) -> None:
        seeds.append(seed)
        for path in source.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        (out / "dataset.yaml").write_text("name: pinboard\ngenerated: true\nnote: Generated.\n")

    monkeypatch.setattr(pinboard, "generate_pinboard", generate_pinboard)
    out = tmp_path / "built"
    out.mkdir()
    build_dataset(DataConfig(reader="pinboard"), out)
    dataset = load_dataset(out)
    assert (dataset.name, dataset.generated, dataset.note) == ("pinboard", True, "Generated.")
    assert (out / "source" / "items.csv").exists()
    assert seeds == [0]
