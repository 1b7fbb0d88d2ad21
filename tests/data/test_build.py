from __future__ import annotations

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
