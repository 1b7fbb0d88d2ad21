"""A labelling process to be killed: slow enough that a kill falls into the work."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
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


def open_teacher(teacher: Path, pids: Path) -> Teacher:
    """A teacher in a process that tells its id."""
    (pids / str(os.getpid())).touch()
    return load_teacher(teacher)
