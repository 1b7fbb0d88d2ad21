"""A labeller that needs no network, so that a worker with it starts at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pertinent.progress import Progress


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
