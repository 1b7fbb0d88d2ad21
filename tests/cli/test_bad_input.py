"""Each kind of bad input: one clear line on stderr, exit code 2, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from pertinent.cli import main

Settings = Callable[..., dict[str, Any]]
Run = Callable[..., str]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must exit with 2, and returns the last line of its stderr."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["pertinent", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        error = capsys.readouterr().err
        assert exit_.value.code == 2, error
        assert "Traceback" not in error
        return error.strip().splitlines()[-1]

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A good dataset folder of CSV files with 40 queries and 20 items."""
    folder = tmp_path / "source"
    folder.mkdir()
    items = ["item_id,title"] + [f"i{k},red sofa {k}" for k in range(20)]
    judgments = ["query,item_id,grade"] + [f"query {q},i{(q + k) % 20},{k}" for q in range(40) for k in range(5)]
    (folder / "items.csv").write_text("\n".join(items) + "\n", encoding="utf-8")
    (folder / "judgments.csv").write_text("\n".join(judgments) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def config(tmp_path: Path, source: Path) -> Path:
    file = tmp_path / "run.yaml"
    tree = {"name": "x", "output": str(tmp_path / "runs"), "data": {"path": str(source)}}
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return file


def rewrite(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    file.write_text("\n".join(change(file.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")


def test_the_good_folder_passes(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pertinent", "run", str(config), "--until", "data"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0


def test_missing_column(fails: Run, config: Path, source: Path) -> None:
    rewrite(source / "judgments.csv", lambda lines: ["query,item,grade", *lines[1:]])
    line = fails("run", config, "--until", "data")
    assert "judgments.csv" in line
    assert "item_id" in line


def test_grade_off_the_scale(fails: Run, config: Path, source: Path) -> None:
    rewrite(source / "judgments.csv", lambda lines: [lines[0], *[row[:-1] + "9" for row in lines[1:]]])
    line = fails("run", config, "--until", "data")
    assert "grade must be one of 0, 1, 2, 3, 4, got 9" in line
    assert "judgments.csv" in line


def test_unknown_config_key_names_the_nearest(fails: Run, config: Path) -> None:
    line = fails("run", config, "--set", "teacher.learning_rat=0.1")
    assert line == f"pertinent: {config}: unknown key teacher.learning_rat; did you mean learning_rate?"


def test_judgments_naming_no_known_item(fails: Run, config: Path, source: Path) -> None:
    rewrite(source / "judgments.csv", lambda lines: [lines[0], *[row.replace(",i", ",z") for row in lines[1:]]])
    assert "item" in fails("run", config, "--until", "data")


def test_empty_file(fails: Run, config: Path, source: Path) -> None:
    (source / "items.csv").write_text("")
    assert "empty" in fails("run", config, "--until", "data")


def test_wrong_encoding(fails: Run, config: Path, source: Path) -> None:
    (source / "items.csv").write_bytes("item_id,title\ni1,café\n".encode("latin-1"))
    line = fails("run", config, "--until", "data")
    assert "items.csv" in line
    assert "utf-8" in line.lower()


def test_no_judgments_in_one_split(fails: Run, config: Path, source: Path) -> None:
    rewrite(source / "judgments.csv", lambda lines: lines[:6])
    assert "no judgments in split" in fails("run", config, "--until", "data")


def test_a_slice_that_is_nowhere_stops_before_anything_is_trained(fails: Run, config: Path) -> None:
    line = fails("run", config, "--set", 'evaluation.slices=["language", "colour"]', "--until", "data")
    assert "evaluation.slices: expected columns of the pairs or the items, found colour; known: " in line
    assert "title" in line
    line = fails("run", config, "--set", 'evaluation.slices=["item_popularity"]', "--until", "data")
    assert line.endswith("item_popularity is counted from the log, and the data set has none")


def test_options_of_evaluate_without_effect_are_refused(fails: Run, source: Path) -> None:
    run, judged = source / "x.run", source / "judgments.csv"
    run.write_text("query 0 Q0 i0 1 1 t\n")
    assert "--system teacher: expected a run folder" in fails("evaluate", run, judged, "--system", "teacher")
    assert "--correction none: expected a run to compare" in fails("evaluate", run, judged, "--correction", "none")


def test_unwritable_output(fails: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file stands where the run folder should go")
    assert "cannot be written" in fails("run", config, "--until", "data")


def test_a_bundle_from_another_version(fails: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_bytes(orjson.dumps({"format": 99, "package_version": "9.9", "files": {}}))
    line = fails("score", bundle, "--query", "sofa")
    assert "expected bundle format 3, found 99 (pertinent 9.9)" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: no such config file"),
        (("score", "nowhere", "--query", "x"), "nowhere: expected a bundle or a run folder"),
        (("score", "nowhere"), "expected either a file of pairs or --query, found neither"),
        (("caption", "nowhere.yaml", "."), "nowhere.yaml: no such config file"),
        (("links", "nowhere.yaml", "."), "nowhere.yaml: no such config file"),
        (
            ("import", "netflix", "-", "out"),
            "expected one of homedepot, esci, cxc, msrd, wands, pinboard, found netflix",
        ),
    ],
)
def test_other_wrong_arguments(fails: Run, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in fails(*arguments)


def test_an_unset_variable_is_named(fails: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    line = fails("run", config, "--set", "data.path=${NO_SUCH_VARIABLE}/x")
    assert "environment variable NO_SUCH_VARIABLE is not set" in line


@pytest.mark.parametrize("out", ["nowhere/scores.parquet", "source"])
def test_scores_that_cannot_be_written_say_why(
    fails: Run, tmp_path: Path, source: Path, finished_run: Any, out: str
) -> None:
    (tmp_path / "pairs.csv").write_text("query,item_id\nred sofa,red-oak-sofa\n")
    line = fails("score", finished_run.folder, tmp_path / "pairs.csv", "--out", tmp_path / out)
    assert f"{out}: cannot be written: " in line
    assert not line.endswith("None")


def test_a_broken_row_of_pairs_is_named_by_its_line(fails: Run, tmp_path: Path, finished_run: Any) -> None:
    (tmp_path / "pairs.csv").write_text("query,item_id\nred sofa,red-oak-sofa\nblue rug\n")
    line = fails("score", finished_run.folder, tmp_path / "pairs.csv")
    assert line.endswith("pairs.csv:3: row must have 2 fields, got 1")


def test_an_evaluation_of_a_broken_table(fails: Run, tmp_path: Path, finished_run: Any) -> None:
    (tmp_path / "scores.jsonl").write_text('{"query": "red sofa", "item_id": 1, "score": "good"}\n')
    line = fails("evaluate", tmp_path / "scores.jsonl", finished_run.folder)
    assert line.endswith("scores.jsonl:1: score must be a number, got 'good'")
    assert "no such file" in fails("evaluate", tmp_path / "nowhere.jsonl", finished_run.folder)
