"""One teacher trained by several processes (torchrun): the first runs the pipeline, the others follow it."""

from __future__ import annotations

import os
import time

from pertinent.errors import DataError
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.stage import ATTEMPT, read_manifest

_PATIENCE_S = 120.0  # for the first process to begin the stage


def is_follower() -> bool:
    """Whether a launcher started this process as one of several, and not as the first."""
    return int(os.environ.get("RANK", "0")) > 0


def follow_teacher(config: RunConfig) -> None:
    """Train along with the first process, which alone writes files.

    Returns at once when the first process finds the teacher up to date. Raises DataError when the stages data and text
    are not there yet: several processes cannot make them together.
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
    while not (partial / ATTEMPT).is_file():
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    backbone = resolve_backbone(config.teacher.backbone)
    data, text = config.folder / "data", config.folder / "text"
    train_teacher(config.teacher, data, text, partial, backbone=backbone, seed=config.seed)
