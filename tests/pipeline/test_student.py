"""A run's student with a sentence encoder, and what is told before anything is trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pertinent.bundle import open_bundle
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import ConfigError
from pertinent.features.sentence import SentenceEncoder
from pertinent.pipeline import student as stage
from pertinent.pipeline.student import require_backend, student_inputs, train_from_run
from pertinent.student.config import StudentConfig


def config_of(backbone: Path, **more: Any) -> StudentConfig:
    sizes = {"dimensions": 8, "hidden": [16], "epochs": 1, "batch_size": 64, "probe_pairs": 20}
    return StudentConfig.model_validate(
        {"encoder": "sentence", "sentence": {"backbone": str(backbone), "max_tokens": 16}, **sizes, **more}
    )


def test_a_runs_folders_make_a_student_of_sentence_vectors(
    finished_run: Any, tiny_backbone: Path, tmp_path: Path
) -> None:
    folders = {name: finished_run.folder / name for name in ("data", "text", "labels")}
    train_from_run(config_of(tiny_backbone), **folders, out=tmp_path, seed=0)
    assert verify_bundle(tmp_path)["probabilities"] <= 1e-5
    encoder = open_bundle(tmp_path).encoder
    assert isinstance(encoder, SentenceEncoder)
    assert encoder.graph.max_tokens == 16
    assert not (tmp_path / "transformer").exists()


def test_another_encoder_makes_another_student(tiny_backbone: Path, tiny_folder: Callable[[str], Path]) -> None:
    assert student_inputs(StudentConfig()) == {}
    one, two = (student_inputs(config_of(folder)) for folder in (tiny_backbone, tiny_folder("xlm-roberta")))
    assert one != two


def test_a_missing_backend_is_told_before_the_teacher_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(stage, "find_spec", lambda name: None if name == "lightgbm" else find(name))
    require_backend(StudentConfig())
    with pytest.raises(ConfigError, match=r"student.backend: expected LightGBM, found none: pip install"):
        require_backend(StudentConfig(backend="lightgbm"))
