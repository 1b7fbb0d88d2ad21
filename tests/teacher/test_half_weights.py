"""Linear layers held in half precision: less memory, and the same logits and the same training to the bit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, LlamaConfig, Qwen3Config

from pertinent.teacher import train as training
from pertinent.teacher.backbones import load_backbone, resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.precision import hold_in_half
from pertinent.teacher.saving import Trained, load_teacher
from pertinent.types import StageResult

QUERIES = ["red sofa", "oak", "", "12 in lamp"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", "title: easy"]
TinyFolder = Callable[[str], Path]


@pytest.fixture
def half_folder(tiny_folder: TinyFolder, tmp_path: Path) -> Callable[..., Path]:
    """A tiny model's folder in half precision, as large models are published."""

    def folder_of(kind: str, dtype: torch.dtype = torch.bfloat16) -> Path:
        folder = tmp_path / f"{kind}-{dtype}"
        AutoModel.from_pretrained(tiny_folder(kind)).to(dtype).save_pretrained(folder)
        (folder / "tokenizer.json").write_bytes((tiny_folder(kind) / "tokenizer.json").read_bytes())
        return folder

    return folder_of


def dtypes(network: nn.Module) -> tuple[set[torch.dtype], set[torch.dtype]]:
    """Of the weights of linear layers, and of all other parameters and buffers."""
    linear = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear)}
    every = [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]
    first = {value.dtype for value in every if id(value) in linear}
    return first, {value.dtype for value in every if id(value) not in linear}


@pytest.mark.parametrize("kind", ["deberta-v2", "t5", "llama", "qwen3-64"])
def test_held_weights_give_the_logits_of_half_precision_to_the_bit(
    untrained: Callable[..., Trained], kind: str
) -> None:
    made = untrained(kind)
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    expected = TorchEngine(copy.deepcopy(made.network), bfloat16=True).logits(rows, made.pad_id)
    engine = TorchEngine.owning(made.network, bfloat16=True)
    assert dtypes(made.network.encoder) == ({torch.bfloat16}, {torch.float32})
    assert dtypes(made.network.head)[0] == {torch.float32}
    found = engine.logits(rows, made.pad_id)
    assert found.dtype == np.float32
    assert (found == expected).all()


def test_they_take_half_the_memory(untrained: Callable[..., Trained]) -> None:
    def n_bytes(network: nn.Module) -> int:
        return sum(module.weight.nbytes for module in network.modules() if isinstance(module, nn.Linear))

    encoder = untrained("llama").network.encoder
    before = n_bytes(encoder)
    hold_in_half(encoder)
    assert 2 * n_bytes(encoder) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_is_held_as_its_folder_stores_it(half_folder: Callable[..., Path], dtype: torch.dtype) -> None:
    backbone = resolve_backbone(str(half_folder("llama", dtype)))
    half, whole = load_backbone(backbone, half=True), load_backbone(backbone)
    assert dtypes(half) == ({dtype}, {torch.float32})
    assert dtypes(whole) == ({torch.float32}, {torch.float32})
    assert half.config.dtype == torch.float32
    expected = whole.state_dict()
    assert all(torch.equal(value.float(), expected[name]) for name, value in half.state_dict().items())
    for name, value in whole.named_buffers():  # rotary frequencies are no weights, and are never rounded
        assert torch.equal(value, half.get_buffer(name)), name


def test_a_float32_folder_stays_float32(tiny_backbone: Path) -> None:
    assert dtypes(load_backbone(resolve_backbone(str(tiny_backbone)), half=True)) == ({torch.float32}, {torch.float32})


@pytest.mark.parametrize(
    ("tuning", "precision", "device", "expected"),
    [
        ("lora", "bfloat16", "cuda", torch.bfloat16),
        ("lora", "float32", "cuda", torch.float32),
        ("lora", "bfloat16", "cpu", torch.float32),
        ("full", "bfloat16", "cuda", torch.float32),  # what is trained is float32
    ],
)
def test_a_base_is_held_in_half_for_adapters_on_an_accelerator_that_multiplies_in_it(
    half_folder: Callable[..., Path],
    config_of: Callable[..., TeacherConfig],
    monkeypatch: pytest.MonkeyPatch,
    tuning: str,
    precision: str,
    device: str,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(training, "_device", lambda: device)
    backbone = resolve_backbone(str(half_folder("llama")))
    network = training.new_network(backbone, config_of(tuning=tuning, precision=precision), 3, seed=0)
    assert dtypes(network.encoder)[0] == {expected}
    assert dtypes(network.head)[0] == {torch.float32}


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_adapters_on_a_half_base_train_to_the_same_teacher(
    train: Callable[..., StageResult],
    config_of: Callable[..., TeacherConfig],
    half_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    config, folder = config_of(tuning="lora", precision="bfloat16"), half_folder(kind)
    put_on = training.with_adapters

    def rounded(network: CrossEncoder, *arguments: Any, **named: Any) -> Any:
        # peft draws new adapters in the base's precision: for the whole base, the same ones.
        adapters = put_on(network, *arguments, **named)
        for name, parameter in network.named_parameters():
            if ".lora_A." in name:
                parameter.data = parameter.data.bfloat16().float()
        return adapters

    with monkeypatch.context() as patched:
        patched.setattr(training, "with_adapters", rounded)
        train(folder, tmp_path / "whole", config)
    held: list[Any] = []
    load = training.load_backbone

    def noted(*arguments: Any, **named: Any) -> Any:
        held.append(load(*arguments, **{**named, "half": True}))
        return held[-1]

    monkeypatch.setattr(training, "load_backbone", noted)
    train(folder, tmp_path / "half", config)
    assert torch.bfloat16 in dtypes(held[0])[0]
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float32"
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert whole.keys() == half.keys()
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert max(float((whole[name] - half[name]).abs().max()) for name in whole) == 0
    assert load_teacher(tmp_path / "half").teacher_id == load_teacher(tmp_path / "whole").teacher_id


DECODERS = {
    "Llama-3-8B": LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    ),
    "Qwen3-4B": Qwen3Config(
        vocab_size=151_936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    ),
}


@pytest.mark.parametrize(("column", "name"), list(enumerate(DECODERS, start=2)))
def test_the_memory_in_the_docs_is_that_of_the_models(column: int, name: str) -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(DECODERS[name])
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    n_linear = sum(module.weight.numel() for module in linear)
    n_words = model.get_input_embeddings().weight.numel()
    assert sum(value.numel() for value in model.parameters()) == pytest.approx(n_linear + n_words, rel=1e-3)
    width = DECODERS[name].hidden_size
    n_trained = sum(16 * (module.in_features + module.out_features) for module in linear) + width * (width + 6) + 5
    base = (n_linear, n_words, n_trained)
    docs = (Path(__file__).parents[2] / "docs" / "teacher.md").read_text(encoding="utf-8")
    text = docs.partition("### Memory")[2].partition("\n## ")[0]
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    rows = {row[0]: row[column] for row in table[2:]}
    assert table[0][column] == name
    assert rows.pop("L, E, A in millions") == "; ".join(f"{n / 1e6:,.0f}" for n in base)
    expected = {
        "everything in float32": (4, 4, 0),
        "scoring on a GPU": (2, 4, 0),
        "LoRA on a GPU": (2, 4, 16),
        "QLoRA": (0.516, 4, 16),
        "merging and saving QLoRA, host memory": (4.516, 8, 8),
    }
    sums = {row: sum(n * size for n, size in zip(base, sizes, strict=True)) / 1e9 for row, sizes in expected.items()}
    assert rows == {row: f"{value:.1f}" for row, value in sums.items()}
