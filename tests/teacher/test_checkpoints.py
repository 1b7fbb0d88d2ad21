"""What stays of a training whose loss is not a number, and what it says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from pertinent import files
from pertinent.errors import ModelError
from pertinent.pipeline.stage import run_stage
from pertinent.teacher import checkpoints, cross_encoder, trainer
from pertinent.teacher.checkpoints import keep_apart, keep_complete, last_good
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.saving import load_teacher
from pertinent.types import StageResult

# As in test_train.py: 6 steps an epoch, checkpoints at 4, 8, 12, 16.
Train = Callable[..., StageResult]
ConfigOf = Callable[..., TeacherConfig]
ADVICE = (
    "Lower teacher.learning_rate or set teacher.precision: float32; a changed configuration starts the stage anew; "
)


@contextmanager
def loss_is_nan_at(step: int) -> Iterator[list[list[int]]]:
    """Yields the rows of each batch."""
    whole_loss, compute_loss = cross_encoder.cross_entropy, trainer._Trainer.compute_loss
    batches: list[list[int]] = []

    def noted(self: Any, model: Any, inputs: dict[str, Tensor], *rest: Any, **named: Any) -> Tensor:
        batches.append(inputs["pairs"].tolist())
        return compute_loss(self, model, inputs, *rest, **named)

    def breaks(*arguments: Any) -> Tensor:
        return whole_loss(*arguments) * (math.nan if len(batches) == step else 1.0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cross_encoder, "cross_entropy", breaks)
        patched.setattr(trainer._Trainer, "compute_loss", noted)
        yield batches


@contextmanager
def gradient_is_nan_at(step: int) -> Iterator[None]:
    clip = Accelerator.clip_grad_norm_
    n_steps = 0

    def breaks(self: Any, parameters: Any, *rest: Any, **named: Any) -> Any:
        nonlocal n_steps
        n_steps += 1
        every = list(parameters)
        if n_steps == step:
            every[-1].grad.fill_(math.nan)
        return clip(self, every, *rest, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Accelerator, "clip_grad_norm_", breaks)
        yield


def largest_difference(one: Path, other: Path) -> float:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module")
def undisturbed(train: Train, config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    train("bert", out, config_of())
    return out


def test_a_loss_that_is_not_a_number_says_the_rows_what_to_change_and_what_is_kept(
    train: Train, config_of: ConfigOf, stages: tuple[Path, Path], undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / ".teacher.partial"
    with loss_is_nan_at(7) as batches, pytest.raises(ModelError) as stopped:
        train("bert", out, config_of())
    judgments = pl.read_parquet(stages[0] / "judgments.parquet").filter(pl.col("split") == "train")
    named = [f"{judgments['query'][pair]} -> {judgments['item_id'][pair]}" for pair in batches[-1]]
    kept = tmp_path / "teacher-stopped" / "checkpoint-4"
    assert str(stopped.value) == (
        f"teacher: the loss is nan at step 7, in a batch of 8 rows such as {'; '.join(named[:3])}. {ADVICE}"
        f"the last good checkpoint, of step 4, is kept in {kept}, the rows of the batch in {kept.with_name('batch.txt')}"
    )
    assert kept.with_name("batch.txt").read_text().splitlines() == named
    assert (kept / "model.safetensors").stat().st_size > 0
    # The same configuration goes on from it.
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["checkpoint-4"]
    train("bert", out, config_of())
    assert largest_difference(out, undisturbed) <= 1e-6


def test_a_checkpoint_of_weights_that_are_not_numbers_is_not_a_good_one(
    train: Train, config_of: ConfigOf, undisturbed: Path, tmp_path: Path
) -> None:
    """The gradient of step 8 breaks the weights, which its checkpoint holds; the loss tells at step 9."""
    with (
        gradient_is_nan_at(8),
        pytest.raises(ModelError, match=r"nan at step 9, .* good checkpoint, of step 4, is kept in .*checkpoint-4,"),
    ):
        train("bert", tmp_path / "out", config_of())
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["checkpoint-4"]
    train("bert", tmp_path / "out", config_of())
    assert largest_difference(tmp_path / "out", undisturbed) <= 1e-6


def test_logits_of_dev_that_are_not_numbers_are_told_too(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    with (
        gradient_is_nan_at(6),
        pytest.raises(
            ModelError, match=r"^teacher: the logits of dev pairs are not all numbers .*of step 4, is kept in"
        ),
    ):
        train("bert", tmp_path / "out", config_of())


def test_a_training_that_fails_before_its_first_checkpoint_says_so(
    train: Train, config_of: ConfigOf, tmp_path: Path
) -> None:
    with loss_is_nan_at(2), pytest.raises(ModelError, match=r"; there is no good checkpoint yet, the rows of"):
        train("bert", tmp_path / "out", config_of())
    assert [path.name for path in (tmp_path / "out-stopped").iterdir()] == ["batch.txt"]


def test_each_member_of_an_ensemble_keeps_its_own(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    with loss_is_nan_at(12 + 7), pytest.raises(ModelError) as stopped:
        train("bert", tmp_path / "out", config_of(members=2))
    kept = tmp_path / "out-stopped" / "member-1" / "checkpoint-4"
    assert str(stopped.value).endswith(f"is kept in {kept}, the rows of the batch in {kept.parent / 'batch.txt'}")
    assert kept.is_dir()


def test_a_changed_configuration_starts_anew_and_the_checkpoint_is_still_there(
    train: Train, config_of: ConfigOf, tmp_path: Path
) -> None:
    def stage(config: TeacherConfig) -> None:
        settings = config.model_dump(mode="json")
        work = lambda out: train("bert", out, config)  # noqa: E731
        run_stage("teacher", tmp_path / "teacher", config=settings, seed=3, inputs={}, work=work)

    with loss_is_nan_at(7), pytest.raises(ModelError) as stopped:
        stage(config_of())
    found = re.search(r"is kept in ([^,]*), the rows", str(stopped.value))
    assert found is not None
    kept = Path(found[1])
    weights = load_file(kept / "model.safetensors")
    with loss_is_nan_at(1), pytest.raises(ModelError, match=r"at step 1, .* no good checkpoint yet"):
        stage(config_of(learning_rate=1e-3))  # not of step 7: anew
    stage(config_of(learning_rate=1e-3))
    load_teacher(tmp_path / "teacher")
    assert all(torch.equal(value, weights[name]) for name, value in load_file(kept / "model.safetensors").items())


def test_a_model_that_diverges_is_a_model_error(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^teacher: the lo(ss is|gits of) .*[Ll]ower teacher\.learning_rate[^\n]*$"):
        train("bert", tmp_path, config_of(learning_rate=1e30, epochs=1))


def checkpoint(folder: Path, step: int, value: float = 1.0, *, is_complete: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    weights = {"weight": torch.tensor([1.0, value]), "count": torch.tensor([3])}
    save_file(weights, made / "model.safetensors")
    if is_complete:
        (made / "complete").touch()
    return made


def test_a_checkpoint_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 8, is_complete=False)
    keep_complete(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_last_good_checkpoint_is_the_newest_of_numbers(tmp_path: Path, bad: float) -> None:
    assert last_good(tmp_path) is None
    for step, value in ((900, 1.0), (1000, 2.0), (1100, bad)):
        checkpoint(tmp_path, step, value)
    checkpoint(tmp_path, 1200, is_complete=False)
    assert last_good(tmp_path) == tmp_path / "checkpoint-1000"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1000", "checkpoint-900"]


@pytest.mark.parametrize("links", [True, False])
def test_a_kept_checkpoint_outlives_its_folder_and_gives_way_to_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuses(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(files.os, "link", refuses)
    first, second = checkpoint(tmp_path / "work", 4), checkpoint(tmp_path / "work", 8, 7.0)
    kept = keep_apart(first, tmp_path / "kept")
    assert (kept / "model.safetensors").samefile(first / "model.safetensors") == links
    kept = keep_apart(second, tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["checkpoint-8"]
    checkpoints.shutil.rmtree(tmp_path / "work")
    assert load_file(kept / "model.safetensors")["weight"].tolist() == [1.0, 7.0]
