"""Answers that were paid for, each kept the moment it came, in a folder that any run may share."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pertinent.judge.ledger import add_line, read_lines


class AnswerStore:
    """Soft labels of one judge by query and hash of the item's text. Several processes may write: each has its file."""

    def __init__(self, folder: Path) -> None:
        """folder: of the judge's settings. Raises DataError where it cannot be read."""
        self._probs: dict[tuple[str, str], NDArray[np.float32]] = {}
        self._lock = threading.Lock()
        for file in sorted(folder.glob("answers-*.jsonl")):
            for line in read_lines(file):
                self._probs[line["query"], line["text_hash"]] = np.array(line["probs"], dtype=np.float32)
        self._file = folder / f"answers-{time.time_ns()}-{os.getpid()}.jsonl"

    def get(self, query: str, text: str) -> NDArray[np.float32] | None:
        """(n,) what was answered before, or None."""
        return self._probs.get((query, _hash(text)))

    def add(self, query: str, text: str, probs: NDArray[np.float32]) -> None:
        """Keep an answer."""
        document = {"query": query, "text_hash": _hash(text), "probs": [float(p) for p in probs]}
        with self._lock:
            self._probs[query, _hash(text)] = probs
            add_line(self._file, document)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]  # as the text stage's text_hash
