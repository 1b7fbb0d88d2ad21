from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pertinent.cli import main
from pertinent.errors import ConfigError
from pertinent.files import read_json
from pertinent.teacher import trackers, trainer
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.trackers import logging_under, require_trackers
from pertinent.types import StageResult

VARIABLES = ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "WANDB_DIR")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_variables")
def test_tensorboard_keeps_the_losses_with_the_teacher(
    train: Callable[..., StageResult],
    config_of: Callable[..., TeacherConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(trainer, "_LOG_STEPS", 2)
    train("bert", tmp_path, config_of(trackers=["tensorboard"]))
    log = EventAccumulator(str(tmp_path / "trackers"))
    log.Reload()
    losses = log.Scalars("train/loss")
    assert [event.step for event in losses] == [2, 4, 6, 8, 10, 12]
    # Each is the mean of two steps; the history's, that of an epoch of six.
    means = [sum(event.value for event in losses[k : k + 3]) / 3 for k in (0, 3)]
    assert means == pytest.approx([row["loss"] for row in read_json(tmp_path / "history.json")], abs=1e-3)
    assert not (tmp_path / "checkpoints").exists()
    assert not [name for name in VARIABLES if name in os.environ]


def test_without_a_tracker_there_is_no_log(
    train: Callable[..., StageResult], config_of: Callable[..., TeacherConfig], tmp_path: Path
) -> None:
    train("bert", tmp_path, config_of(epochs=1))
    assert not (tmp_path / "trackers").exists()


@pytest.mark.usefixtures("no_variables")
def test_each_tracker_is_told_the_folder_unless_the_user_says_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    folder = tmp_path / "trackers"
    found = {}

    def fails() -> None:
        with logging_under(folder, ["mlflow", "wandb"]):
            assert folder.is_dir()
            found.update({name: os.environ[name] for name in VARIABLES})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    told = {"TENSORBOARD_LOGGING_DIR": str(folder), "WANDB_DIR": str(folder)}
    assert found == {**told, "MLFLOW_TRACKING_URI": "http://tracking.example"}
    assert [os.environ.get(name) for name in VARIABLES] == [None, "http://tracking.example", None]


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("tensorboard", "pip install 'pertinent[track]'"),
        ("mlflow", "pip install mlflow"),
        ("wandb", "pip install wandb"),
    ],
)
@pytest.mark.usefixtures("nothing_installed")
def test_one_that_is_not_installed_is_told_how(name: str, install: str) -> None:
    with pytest.raises(ConfigError) as refused:
        require_trackers([name])
    assert str(refused.value) == f"teacher.trackers: {name} is not installed: {install}"


@pytest.mark.parametrize("command", [["run"], ["teacher", "train"]])
@pytest.mark.parametrize(
    ("tracker", "said"),
    [
        ("mlflow", "teacher.trackers: mlflow is not installed: pip install mlflow"),
        ("comet", "teacher.trackers.0: expected 'tensorboard', 'mlflow' or 'wandb', found 'comet'"),
    ],
)
@pytest.mark.usefixtures("nothing_installed")
def test_the_command_stops_in_one_line_before_any_work(
    small_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    tracker: str,
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["pertinent", *command, str(small_run), "--set", f"teacher.trackers=[{tracker}]"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (small_run.parent / "runs").exists()


@pytest.mark.usefixtures("nothing_installed")
def test_the_stages_before_the_teacher_need_no_tracker(small_run: Path) -> None:
    from pertinent.pipeline import load_run_config, run_pipeline

    outcome: dict[str, Any] = run_pipeline(load_run_config(small_run, ["teacher.trackers=[wandb]"]), until="data")
    assert list(outcome["stages"]) == ["data"]


@pytest.mark.usefixtures("nothing_installed")
def test_from_python_too(
    train: Callable[..., StageResult], config_of: Callable[..., TeacherConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.trackers: wandb is not installed"):
        train("bert", tmp_path / "out", config_of(trackers=["wandb"]))
    assert not list((tmp_path / "out").iterdir())
