"""Low-rank adapters (LoRA, QLoRA): put on a network, and merged into plain float32 weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch import Tensor, nn

from pertinent.errors import ConfigError, ModelError
from pertinent.teacher.config import LoraSettings
from pertinent.teacher.cross_encoder import CrossEncoder

_ADAPTER = "default"


def with_adapters(network: CrossEncoder, settings: LoraSettings, *, four_bit: bool) -> PeftModel:
    """Adapters on every linear layer of the language model; they and the whole head are trained, in float32.

    The network is changed in place: its own forward pass then runs through the adapters too.
    """
    if four_bit:
        network.is_loaded_in_4bit = True  # where peft looks for it
        prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]
    layers = {name.rpartition(".")[2] for name, module in network.encoder.named_modules() if _is_linear(module)}
    if not layers:
        kind = network.config.encoder.model_type
        raise ConfigError(
            f"teacher.tuning: expected full, found {'qlora' if four_bit else 'lora'}; {kind} has no linear layers to adapt"
        )
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(layers),
        exclude_modules=r"head\..*",
        modules_to_save=["head"],
    )
    with _old_names_allowed():
        return get_peft_model(network, config)


def load_adapters(network: CrossEncoder, folder: Path) -> CrossEncoder:
    """The network with the adapters and the head of a saved adapter folder. Raises ModelError if the head is not whole."""
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise ModelError(f"{folder}: expected an adapter folder with {file.name}, found none")
    with safe_open(file, framework="pt") as stored:
        found = set(stored.keys())
    absent = [name for name in network.head.state_dict() if f"base_model.model.head.{name}" not in found]
    if absent:  # peft only warns
        raise ModelError(f"{file}: the trained head is missing: expected head.{absent[0]}, found none")
    with _old_names_allowed():
        model: Any = PeftModel.from_pretrained(network, str(folder))
    loaded: CrossEncoder = model.get_base_model()
    return loaded


def merged(network: CrossEncoder) -> CrossEncoder:
    """A plain float32 network on the CPU with the adapters added to its weights; 4-bit weights are dequantised.

    Raises KeyError (a bug of ours) if a weight of the plain network would be left out.
    """
    # Its parameters take no memory of their own: those of the state become its own.
    with init_empty_weights(include_buffers=False):
        plain = CrossEncoder(network.config)
    plain.load_state_dict(_merged_state(network, plain.state_dict().keys()), strict=True, assign=True)
    plain.tie_weights()
    return plain.eval()  # type: ignore[no-any-return]


def _merged_state(network: CrossEncoder, wanted: Iterable[str]) -> dict[str, Tensor]:
    """The weights of the plain network by name; none shares memory with the network's own."""
    state: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            base: Any = module.get_base_layer()
            state[f"{name}.weight"] = _dense_weight(base) + _delta(module)
        elif _is_linear(module) and not name.endswith(".base_layer") and ".lora_" not in name:
            state[f"{_plain_name(name)}.weight"] = _dense_weight(module)
    for name, value in network.state_dict().items():
        plain = _plain_name(name)
        skipped = ".lora_" in name or ".original_module." in name or ".quant_" in name or ".absmax" in name
        if not skipped and ".weight." not in name:
            dtype = torch.float32 if value.is_floating_point() else value.dtype
            if plain not in state:
                state[plain] = value.detach().to("cpu", dtype, copy=True)
    return {name: state[name] for name in wanted}


def _plain_name(name: str) -> str:
    return name.replace(".base_layer", "").replace(f".modules_to_save.{_ADAPTER}", "")


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)  # bitsandbytes' 4-bit layer is one too


def _dense_weight(layer: nn.Module) -> Tensor:
    """(out, in) float32 on the CPU."""
    weight: Any = layer.weight
    if (quant_state := getattr(weight, "quant_state", None)) is not None:
        from bitsandbytes.functional import dequantize_4bit

        dense: Tensor = dequantize_4bit(weight.data, quant_state)
        return dense.detach().float().cpu()
    return weight.detach().to("cpu", torch.float32, copy=True)  # type: ignore[no-any-return]


def _delta(layer: Any) -> Tensor:
    """What the adapter adds to the layer's weight: (out, in) float32 on the CPU."""
    down = layer.lora_A[_ADAPTER].weight.detach().float().cpu()
    up = layer.lora_B[_ADAPTER].weight.detach().float().cpu()
    delta: Tensor = layer.scaling[_ADAPTER] * (up @ down)
    return delta


@contextmanager
def _old_names_allowed() -> Iterator[None]:
    # peft asks transformers by a name that the latter will drop, and the warning would reach the user.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
