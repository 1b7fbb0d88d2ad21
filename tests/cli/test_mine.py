"""`pertinent mine`: the three commands, skipped and continued like any stage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from pertinent.cli import main
from pertinent.data.build import build_dataset
from pertinent.data.config import DataConfig
from pertinent.data.splits import split_of

Command = Callable[..., tuple[int, Any, str]]
TRAIN = [f"other {k}" for k in range(40) if split_of(f"other {k}") == "train"]
TEST = next(f"other {k}" for k in range(40) if split_of(f"other {k}") == "test")


@pytest.fixture
def pertinent(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs a command: its exit code, the JSON document on stdout or None, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["pertinent", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        out, error = capfdbinary.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        return code, orjson.loads(out) if out else None, error.decode()

    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder whose data stage is done, with a log of 60 rows of 5 users."""
    source, out = tmp_path / "source", tmp_path / "run" / "data"
    source.mkdir()
    out.mkdir(parents=True)
    pl.DataFrame({"item_id": [f"i{k}" for k in range(6)], "title": ["t"] * 6}).write_csv(source / "items.csv")
    rows = [{"query": f"q {q}", "item_id": f"i{q % 6}", "grade": (q + k) % 5} for q in range(60) for k in range(2)]
    pl.DataFrame(rows).write_csv(source / "judgments.csv")
    log = [
        {"query": query, "item_id": f"i{k % 3}", "action": "save", "user": f"u{k % 5}"}
        for query in (TRAIN[0], TRAIN[1], TEST)
        for k in range(20)
    ]
    pl.DataFrame(log).write_csv(source / "log.csv")
    (source / "boards.csv").write_text("item_id,title,user\ni0,Red,u1\ni0,red,u2\n")
    build_dataset(DataConfig(path=source), out)
    return tmp_path / "run"


def test_queries_are_mined_beside_the_data_once(pertinent: Command, run_folder: Path) -> None:
    code, manifest, _ = pertinent("mine", "queries", run_folder)
    assert code == 0
    assert manifest["counts"]["rows"] == {"seen": 60, "dropped": 20, "kept": 40}
    assert manifest["quarantined"] == {"query is held out (dev or test)": 20}
    assert sorted(file.name for file in (run_folder / "mine").iterdir()) == [
        "fields.parquet",
        "item_rates.parquet",
        "manifest.json",
        "rates.parquet",
    ]
    code, again, error = pertinent("mine", "queries", run_folder / "data", "--set", "threads=1")
    assert (code, again) == (0, manifest)  # threads change no result
    assert "mine: up to date, skipped" in error
    code, other, _ = pertinent("mine", "queries", run_folder, "--set", "k=6")
    assert (code, other["counts"]["queries"]["shown"]) == (0, 0)


def test_another_log_and_another_folder_can_be_named(pertinent: Command, run_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "more.jsonl"
    rows = [{"search": TRAIN[2], "item_id": "i5", "action": "save", "user": f"u{k}"} for k in range(5)]
    log.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    config = tmp_path / "mine.yaml"
    config.write_text("log: {columns: {query: search}}\nk: 5\n")
    out = tmp_path / "elsewhere"
    code, manifest, _ = pertinent("mine", "queries", run_folder, "--log", log, "--config", config, "--out", out)
    assert code == 0
    assert pl.read_parquet(out / "fields.parquet")["item_id"].unique().to_list() == ["i5"]
    log.write_bytes(b"\n".join(map(orjson.dumps, rows[:4])))  # another log is another stage
    code, changed, _ = pertinent("mine", "queries", run_folder, "--log", log, "--config", config, "--out", out)
    assert (code, changed["key"] == manifest["key"]) == (0, False)


def test_boards_are_found_in_the_dataset_folder_or_named(pertinent: Command, run_folder: Path, tmp_path: Path) -> None:
    code, manifest, _ = pertinent("mine", "boards", run_folder, "--path", tmp_path / "source")
    assert (code, manifest["counts"]["titles"]) == (0, 1)
    code, _, error = pertinent("mine", "boards", run_folder)
    assert code == 2
    assert error.endswith("name the file (boards.path)\n")


def test_a_leak_is_refused_with_exit_code_2(pertinent: Command, run_folder: Path) -> None:
    pertinent("mine", "queries", run_folder)
    fields = run_folder / "mine" / "fields.parquet"
    code, found, _ = pertinent("mine", "check", run_folder / "mine", run_folder)
    assert (code, found["refused"], found["fields"]) == (0, 0, str(fields))
    leak = [{"query": TEST, "weight": 1.0}]
    planted = pl.read_parquet(fields).with_columns(engaged_queries=pl.lit(leak))
    planted.write_parquet(fields)
    code, _, error = pertinent("mine", "check", fields, run_folder)
    assert code == 2
    assert f"expected no engaged query that is a held-out query (dev or test), found '{TEST}'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("queries", "."), "expected a data stage's folder or a run folder, found no dataset.json"),
        (("queries", "RUN", "--set", "kk=1"), "--set: unknown key kk; did you mean k?"),
        (("queries", "RUN", "--set", "k"), "--set k: expected KEY=VALUE"),
        (("queries", "RUN", "--log", "gone.csv"), "gone.csv: no such file (the log)"),
        (("queries", "RUN", "--config", "gone.yaml"), "gone.yaml: no such config file"),
        (("boards", "RUN", "--path", "gone.csv"), "gone.csv: no such file (boards.path)"),
        (("check", "gone.parquet", "RUN"), "gone.parquet: no such file"),
    ],
)
def test_wrong_input_is_one_line(
    pertinent: Command, run_folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    named = [run_folder if argument == "RUN" else argument for argument in arguments]
    code, _, error = pertinent("mine", *named)
    assert code == 2
    assert message in error.splitlines()[-1]
