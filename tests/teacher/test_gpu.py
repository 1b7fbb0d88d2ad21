"""What runs otherwise on an accelerator: half weights in scoring, a half base under adapters, a QLoRA training."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from pertinent.files import read_json
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.precision import wants_bfloat16
from pertinent.teacher.saving import Trained, load_teacher, save_teacher
from pertinent.teacher.train import prepare_network
from pertinent.types import StageResult

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator"),
]
QUERIES = ["red sofa", "oak", "", "12 in lamp"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", "title: easy"]
needs_bfloat16 = pytest.mark.skipif(
    not (torch.cuda.is_available() and wants_bfloat16("auto", "cuda")), reason="the accelerator has no bfloat16"
)


@needs_bfloat16
@pytest.mark.parametrize("kind", ["bert-segments", "t5", "llama"])
def test_scoring_holds_half_weights_and_gives_close_probabilities(
    untrained: Callable[..., Trained], tmp_path: Path, kind: str
) -> None:
    save_teacher(untrained(kind, precision="auto"), tmp_path, "")
    teacher = load_teacher(tmp_path)
    (member,) = teacher.members
    assert isinstance(member.engine, TorchEngine)
    network = member.engine.network
    assert {value.device.type for value in network.parameters()} == {"cuda"}
    linear = [module for module in network.encoder.modules() if isinstance(module, torch.nn.Linear)]
    assert {module.weight.dtype for module in linear} == {torch.bfloat16}
    assert {value.dtype for value in network.head.parameters()} == {torch.float32}
    rows = member.pairs.encode(QUERIES, TEXTS).rows
    logits = member.engine.logits(rows, member.pad_id)
    on_cpu = load_teacher(tmp_path, device="cpu").members[0].engine.logits(rows, member.pad_id)
    assert np.abs(logits - on_cpu).max() < 0.1 * max(np.ptp(on_cpu), 1.0)


@needs_bfloat16
def test_a_published_base_is_held_in_half_under_adapters(
    train: Callable[..., StageResult],
    config_of: Callable[..., TeacherConfig],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    from pertinent.teacher.backbones import resolve_backbone

    folder = tmp_path / "base"
    AutoModel.from_pretrained(tiny_folder("llama")).bfloat16().save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((tiny_folder("llama") / "tokenizer.json").read_bytes())
    config = config_of(tuning="lora", precision="bfloat16", epochs=3)
    network = prepare_network(resolve_backbone(str(folder)), config, 3, seed=0).network
    assert network.encoder.layers[0].mlp.down_proj.base_layer.weight.dtype == torch.bfloat16
    train(folder, tmp_path / "out", config)
    history = read_json(tmp_path / "out" / "history.json")
    assert history[-1]["loss"] < history[0]["loss"]
    load_teacher(tmp_path / "out")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="4-bit weights need bitsandbytes")
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_qlora_trains_saves_and_scores(
    train: Callable[..., StageResult],
    config_of: Callable[..., TeacherConfig],
    tmp_path: Path,
    *,
    gradient_checkpointing: bool,
) -> None:
    config = config_of(
        tuning="qlora", precision="auto", epochs=3, gradient_checkpointing=gradient_checkpointing, device_batch_size=4
    )
    counts = train("llama-64", tmp_path, config).counts
    history = read_json(tmp_path / "history.json")
    assert history[-1]["loss"] < history[0]["loss"]
    teacher = load_teacher(tmp_path)
    assert teacher.members[0].calibration.to_dict() == counts["calibration"]
    probs = teacher.score(QUERIES, TEXTS)
    assert probs.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-5)
