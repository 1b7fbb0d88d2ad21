"""Checkpoints of a training: which of them are whole and good, and the one that outlives a training that failed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open

from pertinent.errors import ModelError
from pertinent.files import atomic_path, link_or_copy

CHECKPOINTS = "checkpoints"
BATCH = "batch.txt"  # "query -> item" of each row whose loss was not a number
COMPLETE = "complete"  # written into a checkpoint last: one without it was cut off while being written


class NotANumberError(ModelError):
    """Training gave a loss or a logit that is not a number. rows: the pairs of its batch, by name."""

    def __init__(self, message: str, rows: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


def keep_complete(folder: Path) -> None:
    """Drop checkpoints that were cut off while being written."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / COMPLETE).exists():
            shutil.rmtree(checkpoint)


def last_good(folder: Path) -> Path | None:
    """The newest whole checkpoint whose weights are numbers, None where there is none; bad ones are dropped.

    A step's loss can be a number and its gradient not: a checkpoint after it would fail again at once.
    """
    keep_complete(folder)
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if _is_finite(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def keep_apart(checkpoint: Path, folder: Path) -> Path:
    """Give ``folder`` the checkpoint too, in place of an earlier one, without the disk it takes; returns its new path."""
    kept = folder / checkpoint.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with atomic_path(kept) as temporary:
        shutil.copytree(checkpoint, temporary, copy_function=link_or_copy)
    return kept


def stopped_folder(out: Path) -> Path:
    """Where the last good checkpoint of a training that failed is kept: beside the stage, whose folder is made anew."""
    return out.with_name(f"{out.name.removeprefix('.').removesuffix('.partial')}-stopped")


@contextmanager
def last_checkpoint_kept(out: Path, folder: Path) -> Iterator[None]:
    """Where the training in ``out`` gives no number, keep its last good checkpoint and the batch's rows in ``folder``.

    Raises ModelError for the NotANumberError, with what to change and the paths of both.
    """
    try:
        yield
    except NotANumberError as error:
        good = last_good(out / CHECKPOINTS)
        kept = "there is no good checkpoint yet"
        if good is not None:
            kept = f"the last good checkpoint, of step {step_of(good):,}, is kept in {keep_apart(good, folder)}"
        if error.rows:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / BATCH).write_text("\n".join(error.rows) + "\n", encoding="utf-8")
            kept += f", the rows of the batch in {folder / BATCH}"
        raise ModelError(
            f"{error}. Lower teacher.learning_rate or set teacher.precision: float32; a changed configuration starts the "
            f"stage anew; {kept}"
        ) from None


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_finite(checkpoint: Path) -> bool:
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118  not a dict
                weights = stored.get_tensor(name)
                if weights.is_floating_point() and not torch.isfinite(weights).all():
                    return False
    return True
