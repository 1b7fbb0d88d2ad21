"""A labelling process to be killed: slow enough that a kill falls into the work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.progress import Progress
from pertinent.teacher.model import Teacher
from pertinent.teacher.saving import load_teacher

PAUSE_S = 0.03


def label_slowly(config: LabelsConfig, data: Path, text: Path, teacher: Path, out: Path) -> None:
    score = Teacher.score_encoded

    def slow(*arguments: object) -> NDArray[np.float32]:
        time.sleep(PAUSE_S)
        return score(*arguments)  # type: ignore[arg-type]

    Teacher.score_encoded = slow  # type: ignore[method-assign,assignment]
    label_pairs(config, data, text, teacher, out, seed=1)


class Numbers:
    """Labels a pair by the number in its query; -1 raises when seen, -3 takes the process with it."""

    teacher_id = "numbers"

    def __init__(self, pids: Path, pause_s: float = 0.0) -> None:
        (pids / str(os.getpid())).touch()
        self._pause_s = pause_s

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        time.sleep(self._pause_s)
        numbers = np.array([float(query) for query in queries], dtype=np.float32)
        if (numbers == -1).any():
            raise ValueError("poison\nand more")
        if (numbers == -3).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return np.stack([1 - numbers / 1000, numbers / 1000], axis=1).astype(np.float32)


def open_teacher(teacher: Path, pids: Path) -> Teacher:
    """A teacher in a process that tells its id."""
    (pids / str(os.getpid())).touch()
    return load_teacher(teacher)
