"""`pertinent text build|diff|show` on a small data set."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from pertinent.cli import main
from pertinent.files import read_json
from pertinent.pipeline import load_run_config, run_pipeline

Command = Callable[..., Any]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs `pertinent text ...`; returns the exit code, stdout and the last line of stderr."""

    def run(*arguments: object) -> tuple[Any, bytes, str]:
        monkeypatch.setattr(sys, "argv", ["pertinent", "text", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        out, error = capfdbinary.readouterr()
        return exit_.value.code, out, (error.decode().splitlines() or [""])[-1]

    return run


@pytest.fixture
def data(small_run: Path) -> Path:
    return Path(run_pipeline(load_run_config(small_run), until="data")["run"]) / "data"


def test_build_is_skipped_when_nothing_changed_and_lays_fields_over(
    command: Command, small_run: Path, data: Path, tmp_path: Path
) -> None:
    code, out, _ = command("build", data, tmp_path / "a", "--config", small_run)
    assert (code, orjson.loads(out)["counts"]["items"]) == (0, 96)
    made = read_json(tmp_path / "a" / "manifest.json")
    assert "text: up to date, skipped" in command("build", data, tmp_path / "a", "--config", small_run)[2]
    fields = tmp_path / "captions"
    fields.mkdir()
    captions = pl.DataFrame({"item_id": ["red-oak-sofa"], "captions": [["large rustic couch"]]})
    captions.insert_column(1, pl.Series("text_version", [-1], dtype=pl.Int8)).write_parquet(fields / "fields.parquet")
    more = "text.fields=[{name: title, tokens: 12}, {name: captions, tokens: 12}]"
    command("build", data, tmp_path / "b", "--config", small_run, "--set", more, "--fields", fields)
    assert read_json(tmp_path / "b" / "manifest.json")["key"] != made["key"]
    texts = dict(pl.read_parquet(tmp_path / "b" / "items.parquet", columns=["item_id", "text"]).iter_rows())
    assert texts["red-oak-sofa"] == "title: red sofa | captions: large rustic couch"


def test_diff_lists_the_items_that_need_new_labels(
    command: Command, small_run: Path, data: Path, tmp_path: Path
) -> None:
    command("build", data, tmp_path / "old", "--config", small_run)
    items = pl.read_parquet(data / "items.parquet")
    first = pl.col("item_id") == "red-oak-sofa"
    items.with_columns(pl.when(first).then(pl.lit("blue lamp")).otherwise("title").alias("title")).write_parquet(
        data / "items.parquet"
    )
    (data / "manifest.json").unlink()
    command("build", data, tmp_path / "new", "--config", small_run)
    code, out, _ = command("diff", tmp_path / "old", tmp_path / "new", "--out", tmp_path / "changed.parquet")
    document = orjson.loads(out)
    assert (code, document["changed"], document["items"]) == (0, {"title": 1}, ["red-oak-sofa"])
    assert pl.read_parquet(tmp_path / "changed.parquet")["change"].to_list() == ["title"]
    told = command("diff", tmp_path / "old", tmp_path / "new", "--config", small_run, "--set", "changes.title=false",
                   "--share", 0.9)  # fmt: skip
    assert orjson.loads(told[1]) == {
        "rule": {"share": 0.9, "title": False},
        "changed": {"small": 1},
        "needed": 0,
        "items": [],
    }


def test_show_tells_each_field_of_an_item(command: Command, small_run: Path, data: Path) -> None:
    code, out, _ = command("show", "red-oak-sofa", "--config", small_run, "--set", "text.max_tokens=8")
    shown = orjson.loads(out)
    # title: (2 tokens) red sofa (2), a mark (1), description: (2): one token is left of "oak sofa".
    assert (code, shown["text"], shown["n_tokens"]) == (0, "title: red sofa | description: oak", 8)
    assert [field["cut"] for field in shown["fields"]] == [[], ["sofa"]]
    assert [(field["budget"], field["granted"]) for field in shown["fields"]] == [(12, 2), (12, 1)]
    code, _, told = command("show", "nobody", "--config", small_run)
    assert code == 2
    assert "expected an item_id such as " in told
    assert "found no item nobody" in told
    assert command("show", "x")[0] == 2


def test_show_prints_a_table_for_a_person(
    command: Command, small_run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pertinent.cli.text.wants_json", lambda asked: asked)
    out = command("show", "red-oak-sofa", "--config", small_run)[1].decode()
    assert out.startswith("title: red sofa | description: oak sofa")
    assert "9 of 32 tokens" in out


def test_show_reads_a_run_folder_as_it_was_built(command: Command, finished_run: Any) -> None:
    texts = dict(
        pl.read_parquet(finished_run.folder / "text" / "items.parquet", columns=["item_id", "text"]).iter_rows()
    )
    code, out, _ = command("show", "blue-oak-rug", finished_run.folder)
    shown = orjson.loads(out)
    assert code == 0
    assert shown["text"] == texts[shown["item_id"]]
