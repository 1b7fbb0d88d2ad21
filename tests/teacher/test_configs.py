"""Every language model that configs/teachers names is trained, saved and opened again, as a tiny random one of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pertinent.pipeline import load_run_config
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.saving import load_teacher
from pertinent.teacher.train import train_teacher

CONFIGS = {file.stem: file for file in (Path(__file__).parents[2] / "configs" / "teachers").glob("*.yaml")}
KINDS = {
    "mbert": "bert",
    "t5": "t5",
    "mdeberta": "deberta-v2",
    "xlmr-large": "xlm-roberta",
    "llama-3-8b-qlora": "llama-64",
    "mmbert": "modernbert",
    "qwen3-4b-qlora": "qwen3-64",
}


def test_every_teacher_config_has_a_tiny_model_of_its_kind() -> None:
    assert CONFIGS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_teacher_config_trains_its_kind_of_model(
    name: str,
    stages: tuple[Path, Path],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name.endswith("qlora"):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    (tmp_path / "homedepot").mkdir()
    monkeypatch.setenv("PERTINENT_DATA", str(tmp_path))
    changes = ["teacher.max_tokens=48", "teacher.epochs=1", "teacher.precision=float32"]
    changes += ["teacher.pad_token='[PAD]'"] if name.endswith("qlora") else []
    config = load_run_config(CONFIGS[name], changes).teacher
    out = tmp_path / "teacher"
    out.mkdir()
    backbone = resolve_backbone(str(tiny_folder(KINDS[name])))
    counts = train_teacher(config, *stages, out, backbone=backbone, seed=0).counts
    assert counts["train_rows"] == 48
    assert (counts["n_trained_parameters"] < counts["n_parameters"]) == (config.tuning != "full")
    probs = load_teacher(out).score(["red sofa", "blue rug"], ["title: red sofa", "title: oak table"])
    assert probs.shape == (2, 3)
    assert probs.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-5)
