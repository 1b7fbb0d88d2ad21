"""A labelling process to be killed whose teacher is a judge: it imports no torch, and so starts at once."""

from __future__ import annotations

from pathlib import Path

from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs


def label(config: LabelsConfig, data: Path, text: Path, teacher: Path, out: Path) -> None:
    label_pairs(config, data, text, teacher, out, seed=1)
