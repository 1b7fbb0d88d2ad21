"""One stage's folder: skipped, continued, and whole or absent wherever a run is killed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pertinent.errors import DataError
from pertinent.files import read_json, write_json
from pertinent.pipeline import stage
from pertinent.pipeline.stage import read_manifest, run_stage
from pertinent.types import StageResult


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


class Worker:
    """The work of a stage that counts how often it was done."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> StageResult:
        self.calls += 1
        (folder / "rows.txt").write_text(f"work {self.calls}")
        return StageResult({"rows": 3}, {"bad": 1}, ["a warning"])


def run(out: Path, work: Callable[[Path], StageResult], **changed: Any) -> dict[str, Any]:
    return run_stage("data", out, **{"config": {"a": 1}, "seed": 0, "inputs": {}, "work": work, **changed})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run" / "data"


def test_the_manifest_says_what_was_done(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "0123456789ab+dirty")
    manifest = run(out, Worker())
    assert manifest == read_json(out / "manifest.json")
    assert manifest["counts"] == {"rows": 3}
    assert manifest["quarantined"] == {"bad": 1}
    assert manifest["code"] == "0123456789ab+dirty"
    assert re.fullmatch(r"data: warning: a warning\ndata: done in [\d.]+ s\n", capsys.readouterr().err)
    assert sorted(path.name for path in out.parent.rglob("*")) == ["data", "manifest.json", "rows.txt"]


def test_a_stage_is_done_again_when_and_only_when_its_key_changes(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Worker()
    first = run(out, work)
    monkeypatch.setattr(stage, "code_revision", lambda: "another")  # another commit is no reason to do it again
    assert run(out, work) == first
    for n, changed in enumerate(({"config": {"a": 2}}, {"seed": 1}, {"inputs": {"x": "y"}}), start=2):
        assert run(out, work, **changed)["key"] != first["key"]
        assert work.calls == n
    assert (out / "rows.txt").read_text() == "work 4"


def test_work_that_was_cut_off_is_continued_with_the_same_key_and_dropped_with_another(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut_off(folder: Path) -> StageResult:
        (folder / "half.txt").write_text("half")
        raise Killed

    def found(folder: Path) -> StageResult:
        return StageResult({"found": (folder / "half.txt").exists()})

    for _ in range(2):
        with pytest.raises(Killed):
            run(out, cut_off)
    assert not out.exists()
    assert run(out, found)["counts"] == {"found": True}
    assert "data: continuing what was cut off" in capsys.readouterr().err
    with pytest.raises(Killed):
        run(out, cut_off, seed=1)
    assert run(out, found, seed=2)["counts"] == {"found": False}


@pytest.mark.parametrize(
    ("target", "first_time"),
    [("manifest.json", True), ("manifest.json", False), (".data.old", False), ("data", True), ("data", False)],
)
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_a_stage_gets_its_name_loses_no_finished_work(
    out: Path, monkeypatch: pytest.MonkeyPatch, target: str, after: bool, first_time: bool
) -> None:
    """Killed just before or after each rename at the end of a stage, which may replace an older result."""
    if not first_time:
        run(out, Worker(), seed=7)
    work, replace = Worker(), os.replace

    def killing(source: Path, destination: Path) -> None:
        hit = Path(destination).name == target
        if hit and not after:
            raise Killed
        replace(source, destination)
        if hit:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killing)
        with pytest.raises(Killed):
            run(out, work)
    lost = target == "manifest.json" and not after  # the work function alone decides what it keeps of itself
    manifest = run(out, work)
    assert work.calls == (2 if lost else 1)
    assert manifest == read_manifest(out)
    assert sorted(path.name for path in out.parent.rglob("*")) == ["data", "manifest.json", "rows.txt"]


def test_the_older_result_comes_back_when_the_run_that_replaced_it_is_not_repeated(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, replace = run(out, Worker(), seed=7), os.replace

    def killing(source: Path, destination: Path) -> None:
        if Path(destination) == out:
            raise Killed
        replace(source, destination)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killing)
        with pytest.raises(Killed):
            run(out, Worker())
    assert not out.exists()
    idle = Worker()
    assert run(out, idle, seed=7) == first
    assert idle.calls == 0


def test_a_kill_while_the_old_folder_is_removed_leaves_nothing_behind(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(out, Worker(), seed=7)
    remove = shutil.rmtree

    def killing(path: Path, **options: Any) -> None:
        if path.exists() and path.name.endswith(".old"):
            raise Killed
        remove(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killing)
        with pytest.raises(Killed):
            run(out, Worker())
    idle = Worker()
    run(out, idle)
    assert idle.calls == 0
    assert not list(out.parent.glob(".*"))


def test_seconds_and_code_are_those_of_every_attempt(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut_off(folder: Path) -> StageResult:
        raise Killed

    for code, lasted in (("one", 100.0), ("two", 40.0), ("two", 3.0)):
        monkeypatch.setattr(stage, "code_revision", lambda code=code: code)
        with pytest.raises(Killed):
            run(out, cut_off)
        # As a killed process leaves it: the last beat is the file's time of change.
        record = out.with_name(".data.partial") / "attempt.json"
        ended = read_json(record)["started_at"] + lasted
        os.utime(record, (ended, ended))
    manifest = run(out, Worker())
    assert 143.0 <= manifest["seconds"] < 170.0  # and this attempt, which is over in no time on an idle machine
    assert manifest["code"] == "one, two"
    assert re.search(r"data: done in 2 min \d\d s, [\d.]+ s of it in this start", capsys.readouterr().err)


def test_a_killed_attempt_is_timed_to_its_last_second(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beat goes on while work that writes nothing is at it."""
    monkeypatch.setattr(stage, "_BEAT_S", 0.01)
    record = out.with_name(".data.partial") / "attempt.json"

    def quiet(folder: Path) -> StageResult:
        os.utime(record, (0, 0))
        for _ in range(500):
            if record.stat().st_mtime > 0:
                return StageResult({})
            stage.time.sleep(0.01)
        raise AssertionError("no beat in five seconds")

    run(out, quiet)


def test_a_run_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(DataError, match=r"run: cannot be written"):
        run(tmp_path / "run" / "data", Worker())


def test_a_finished_folder_without_a_key_is_done_again(out: Path) -> None:
    out.mkdir(parents=True)
    write_json(out / "manifest.json", {"stage": "data"})
    work = Worker()
    run(out, work)
    assert work.calls == 1
