"""Students on nested shares of a run's labels: the whole is the run's own, and a share is trained once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.errors import ConfigError
from pertinent.files import read_json
from pertinent.pipeline import load_run_config
from pertinent.pipeline.scaling import FILE, write_label_scaling
from pertinent.student.train import train_student
from pertinent.types import StageResult

Train = Callable[[Path, Path], object]


@pytest.fixture
def evaluation(finished_run: Any, tmp_path: Path) -> Path:
    """A copy of the evaluation of a finished run."""
    return Path(shutil.copytree(finished_run.folder / "evaluation", tmp_path / "evaluation"))


@pytest.fixture
def measure(finished_run: Any, evaluation: Path) -> Callable[..., None]:
    return partial(write_label_scaling, labels=finished_run.folder / "labels", evaluation=evaluation)


def labels_of(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("shard-*.parquet"))])


def test_shares_are_nested_and_the_whole_is_the_run_s_own_student(
    finished_run: Any, evaluation: Path, measure: Callable[..., None]
) -> None:
    config = load_run_config(finished_run.config)
    seen: list[set[tuple[str, str]]] = []

    def train(labels: Path, out: Path) -> StageResult:
        seen.append(set(labels_of(labels).select("query", "item_id").rows()))
        return train_student(config.student, *(finished_run.folder / s for s in ("data", "text")), labels, out, seed=0)

    measure((0.6, 0.3), train=train)
    found = read_json(evaluation / FILE)
    whole = labels_of(finished_run.folder / "labels")
    assert seen[0] < seen[1] < set(whole.select("query", "item_id").rows())
    assert [point["n_labels"] for point in found["points"]] == [len(seen[0]), len(seen[1]), whole.height]
    assert found["points"][0]["n_labels"] == pytest.approx(0.3 * whole.height, rel=0.25)
    metrics = read_json(evaluation / "metrics.json")
    for place, system in ((found["points"][-1], "student"), (found["ceiling"], "teacher")):
        assert place["metrics"] == metrics["systems"][system]
        assert place["intervals"] == metrics["intervals"][system]
    assert all(0 <= point["metrics"][found["metric"]] <= 1 for point in found["points"])
    assert not (evaluation / ".label_scaling").exists()


def test_a_share_that_was_measured_before_a_kill_is_not_trained_again(
    finished_run: Any, evaluation: Path, measure: Callable[..., None]
) -> None:
    trained: list[str] = []

    def train(labels: Path, out: Path) -> None:
        trained.append(labels.parent.name)
        if trained == ["0.3", "0.6"]:
            raise KeyboardInterrupt
        shutil.copytree(finished_run.folder / "student", out, dirs_exist_ok=True)

    with pytest.raises(KeyboardInterrupt):
        measure((0.3, 0.6), train=train)
    measure((0.3, 0.6), train=train)
    found = read_json(evaluation / FILE)
    assert trained == ["0.3", "0.6", "0.6"]
    assert [point["share"] for point in found["points"]] == [0.3, 0.6, 1.0]
    # Each is the run's own student here.
    assert len({point["metrics"]["auroc_4+"] for point in found["points"]}) == 1


def test_a_share_without_a_label_is_one_line(measure: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.label_shares: 1e-09 of [\d,]+ labels holds none"):
        measure((1e-9,), train=lambda labels, out: None)
