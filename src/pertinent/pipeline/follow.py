"""One teacher trained by several processes (torchrun): the first runs the pipeline, the others follow it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pertinent.errors import DataError
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.stage import ATTEMPT, read_manifest

_PATIENCE_S = 60.0  # for the first process to begin the stage
_BEAT_S = 1.5  # a stage that is being worked on touches its record more often than this


def is_follower() -> bool:
    """Whether a launcher started this process as one of several, and not as the first."""
    return int(os.environ.get("RANK", "0")) > 0


def _is_beating(record: Path) -> bool:
    return record.is_file() and time.time() - record.stat().st_mtime < _BEAT_S


def follow_teacher(config: RunConfig) -> None:
    """Train along with the first process, which alone writes files.

    Returns when the first process does not begin the stage because the teacher is up to date. Raises DataError when the
    stages data and text are not there yet, which several processes cannot make together, or when nothing begins.
    """
    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.train import train_teacher

    for name in ("data", "text"):
        if read_manifest(config.folder / name) is None:
            raise DataError(
                f"{config.folder / name}: expected a finished stage, found none; before a launch of several processes "
                "run the config with --until text"
            )
    partial = config.folder / ".teacher.partial"
    deadline = time.monotonic() + _PATIENCE_S
    while not _is_beating(partial / ATTEMPT):
        if time.monotonic() > deadline:
            if read_manifest(config.folder / "teacher") is not None:
                return
            raise DataError(
                f"{partial}: expected the first process to begin the stage in {_PATIENCE_S:.0f} s, found none"
            )
        time.sleep(0.1)
    backbone = resolve_backbone(config.teacher.backbone)
    data, text = config.folder / "data", config.folder / "text"
    train_teacher(config.teacher, data, text, partial, backbone=backbone, seed=config.seed)
