"""No form of a saved teacher may lose its head: train some steps, save, open in every form, compare the logits."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from pertinent.errors import ModelError
from pertinent.files import read_json, write_json
from pertinent.teacher import train as training
from pertinent.teacher.adapters import load_adapters
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.saving import SETTINGS, Trained, load_network, load_teacher, save_teacher, weights_hash
from pertinent.teacher.train import new_network
from pertinent.types import StageResult

QUERIES = ["red sofa", "oak", "", "12 in lamp"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", "title: easy"]
TUNED = [(kind, tuning) for kind in ("bert", "t5", "llama") for tuning in ("full", "lora")]
with_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="4-bit weights need bitsandbytes"
)


@dataclass(frozen=True)
class Taught:
    """A teacher folder, what it was made from, and the logits of the network in memory just before it was saved."""

    folder: Path
    backbone: Path
    config: TeacherConfig
    rows: list[list[int]]
    pad_id: int
    logits: NDArray[np.float32]


@pytest.fixture(scope="module")
def taught(
    train: Callable[..., StageResult],
    config_of: Callable[..., TeacherConfig],
    tiny_folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Taught]:
    made: dict[tuple[str, str], Taught] = {}

    def teach(kind: str, tuning: str) -> Taught:
        if (kind, tuning) not in made:
            out = tmp_path_factory.mktemp(f"{kind}_{tuning}")
            config = config_of(tuning=tuning, learning_rate=1e-2, gradient_checkpointing=tuning == "qlora")

            def noted(trained: Trained, folder: Path, card: str) -> CrossEncoder:
                in_float32(trained.network)
                rows = trained.pairs.encode(QUERIES, TEXTS).rows
                logits = logits_of(trained.network, rows, trained.pad_id)
                made[kind, tuning] = Taught(out, tiny_folder(kind), config, rows, trained.pad_id, logits)
                return save_teacher(trained, folder, card)

            def loud(*arguments: Any, **named: Any) -> CrossEncoder:
                # With the small weights of a new head, tiny models would give all pairs the same logits to 1e-3.
                network = new_network(*arguments, **named)
                with torch.no_grad():
                    for parameter in network.head.parameters():
                        parameter.normal_(std=0.3)
                return network

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(training, "save_teacher", noted)
                patched.setattr(training, "new_network", loud)
                train(kind, out, config)
        return made[kind, tuning]

    return teach


def logits_of(network: CrossEncoder, rows: list[list[int]], pad_id: int) -> NDArray[np.float32]:
    return TorchEngine(network, bfloat16=False).logits(rows, pad_id)


def in_float32(network: CrossEncoder) -> CrossEncoder:
    """bitsandbytes multiplies in bfloat16: here its weights are what is compared, not its rounding."""
    for module in network.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
    return network


def base_of(made: Taught) -> CrossEncoder:
    """The language model before training, under a head that nobody trained."""
    return new_network(resolve_backbone(str(made.backbone)), made.config, 3, seed=99)


def copied(made: Taught, tmp_path: Path) -> Path:
    return shutil.copytree(made.folder, tmp_path / "copy")


def without(file: Path, lost: Callable[[str], bool]) -> None:
    """Write a file of weights again without those."""
    weights = load_file(file)
    kept = {name: value for name, value in weights.items() if not lost(name)}
    assert len(kept) < len(weights)
    save_file(kept, file, metadata={"format": "pt"})


@pytest.mark.parametrize(("kind", "tuning"), TUNED)
def test_a_saved_teacher_gives_the_logits_it_had_in_memory(
    taught: Callable[[str, str], Taught], kind: str, tuning: str
) -> None:
    made = taught(kind, tuning)
    assert np.ptp(made.logits, axis=0).min() > 0.1
    (member,) = load_teacher(made.folder).members
    assert member.pairs.encode(QUERIES, TEXTS).rows == made.rows
    assert member.engine.logits(made.rows, made.pad_id) == pytest.approx(made.logits, abs=1e-4)


@pytest.mark.parametrize(("kind", "tuning"), TUNED)
def test_transformers_opens_the_folder_to_the_same_logits(
    taught: Callable[[str, str], Taught], kind: str, tuning: str
) -> None:
    made = taught(kind, tuning)
    network = AutoModelForSequenceClassification.from_pretrained(made.folder).eval()
    assert network.config.id2label == {0: "L1", 1: "L2", 2: "L3"}
    assert logits_of(network, made.rows, made.pad_id) == pytest.approx(made.logits, abs=1e-4)


@pytest.mark.parametrize(("kind", "tuning"), [pair for pair in TUNED if pair[0] != "llama"])
def test_onnx_gives_the_same_logits(taught: Callable[[str, str], Taught], kind: str, tuning: str) -> None:
    made = taught(kind, tuning)
    (member,) = load_teacher(made.folder, engine="onnx").members
    assert member.engine.logits(made.rows, made.pad_id) == pytest.approx(made.logits, abs=1e-4)


@pytest.mark.parametrize("kind", ["bert", "t5", "llama"])
def test_an_adapter_on_the_backbone_gives_the_same_logits(taught: Callable[[str, str], Taught], kind: str) -> None:
    made = taught(kind, "lora")
    network = base_of(made)
    before = logits_of(network, made.rows, made.pad_id)
    assert np.abs(before - made.logits).max() > 0.02
    found = logits_of(load_adapters(network, made.folder / "adapter"), made.rows, made.pad_id)
    assert found == pytest.approx(made.logits, abs=1e-4)


@with_bitsandbytes
def test_a_four_bit_teacher_gives_the_same_logits_as_adapter_and_merged(
    taught: Callable[[str, str], Taught],
) -> None:
    """Its merged form, in float32, against the dequantised weights that it was trained on."""
    made = taught("llama-64", "qlora")
    (member,) = load_teacher(made.folder).members
    assert member.engine.logits(made.rows, made.pad_id) == pytest.approx(made.logits, abs=1e-4)
    network = in_float32(load_adapters(base_of(made), made.folder / "adapter"))
    assert logits_of(network, made.rows, made.pad_id) == pytest.approx(made.logits, abs=1e-4)
    # The weights really are 4-bit ones: those of the folder it began with give other logits.
    full = made.config.model_copy(update={"tuning": "lora"})
    plain = new_network(resolve_backbone(str(made.backbone)), full, 3, seed=99)
    found = logits_of(load_adapters(plain, made.folder / "adapter"), made.rows, made.pad_id)
    assert np.abs(found - made.logits).max() > 1e-3


@pytest.mark.parametrize(("kind", "tuning"), TUNED)
@pytest.mark.parametrize("lost", ["head.", "head.0.weight", "head.2.bias"])
def test_a_model_file_that_lost_its_head_is_refused(
    taught: Callable[[str, str], Taught], tmp_path: Path, kind: str, tuning: str, lost: str
) -> None:
    folder = copied(taught(kind, tuning), tmp_path)
    without(folder / "model.safetensors", lambda name: name.startswith(lost))
    named = "the trained head is missing" if lost == "head." else f"weights are missing, such as {lost}"
    with pytest.raises(ModelError, match=named):
        load_teacher(folder)


@pytest.mark.parametrize("kind", ["bert", "t5", "llama"])
@pytest.mark.parametrize("lost", ["base_model.model.head.", "base_model.model.head.2.weight"])
def test_an_adapter_file_that_lost_its_head_is_refused(
    taught: Callable[[str, str], Taught], tmp_path: Path, kind: str, lost: str
) -> None:
    made = taught(kind, "lora")
    folder = copied(made, tmp_path)
    without(folder / "adapter" / "adapter_model.safetensors", lambda name: name.startswith(lost))
    with pytest.raises(ModelError, match=r"the trained head is missing: expected head\.\d\.\w+, found none"):
        load_adapters(base_of(made), folder / "adapter")


def test_a_folder_without_an_adapter_is_refused(taught: Callable[[str, str], Taught], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected an adapter folder with adapter_model\.safetensors, found none"):
        load_adapters(base_of(taught("bert", "lora")), tmp_path)


def test_a_model_file_that_lost_a_layer_is_refused(taught: Callable[[str, str], Taught], tmp_path: Path) -> None:
    folder = copied(taught("bert", "full"), tmp_path)
    without(folder / "model.safetensors", lambda name: "layer.1.output" in name)
    with pytest.raises(ModelError, match=r"4 weights are missing, such as encoder\.encoder\.layer\.1\.output"):
        load_network(folder)


def declared_saved(folder: Path) -> None:
    """Store the hash of the weights that the folder has now, so that the probe alone can tell that they were changed."""
    settings = read_json(folder / SETTINGS)
    write_json(folder / SETTINGS, {**settings, "weights": weights_hash(load_network(folder))})


@pytest.mark.parametrize(("kind", "tuning"), TUNED)
def test_one_changed_weight_of_the_head_is_refused(
    taught: Callable[[str, str], Taught], tmp_path: Path, kind: str, tuning: str
) -> None:
    folder = copied(taught(kind, tuning), tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["head.2.bias"][1] += 0.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"expected the saved weights, [0-9a-f]{12}, found others"):
        load_teacher(folder)
    declared_saved(folder)
    with pytest.raises(ModelError, match=r"the stored probe's logits are not reproduced: .* found 0\.01"):
        load_teacher(folder)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bert", "encoder.encoder.layer.0.attention.self.value.weight"),
        ("t5", "encoder.encoder.block.1.layer.1.DenseReluDense.wo.weight"),
        ("llama", "encoder.layers.0.mlp.down_proj.weight"),
    ],
)
def test_a_changed_layer_is_refused(taught: Callable[[str, str], Taught], tmp_path: Path, kind: str, name: str) -> None:
    folder = copied(taught(kind, "full"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, name: weights[name] * 3}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"expected the saved weights, [0-9a-f]{12}, found others"):
        load_teacher(folder)
    declared_saved(folder)
    with pytest.raises(ModelError, match="the stored probe's logits are not reproduced"):
        load_teacher(folder)
