"""Which arithmetic a processor is fast in, and which weights may be held in half precision without a change to it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def wants_bfloat16(precision: str, device: str) -> bool:
    """True if models should multiply in bfloat16 on ``device`` ("cpu", "cuda", ...). ``auto`` asks the hardware.

    On a processor without AVX512-BF16 or AMX, half precision is slower than float32.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    info = Path("/proc/cpuinfo")
    return info.exists() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def scoring_tokens(told: int | None, device: str) -> int:
    """Padded tokens a batch when scoring: ``told``, or what suits the device.

    On a CPU the states of a layer should stay in its caches (benchmarks/LOG.md); an accelerator wants work for its cores.
    """
    return told or (1024 if device == "cpu" else 16_384)


def hold_in_half(encoder: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
    """Hold the weights of linear layers in half precision, all else in float32: half the memory, the same logits.

    The same to the bit where the layers multiply in bfloat16 (autocast), which rounds those weights anyway; not so for word
    vectors, norms and buffers, whose rounding would be new. In place.
    """
    linear = {id(module.weight) for module in encoder.modules() if type(module) is nn.Linear}
    for parameter in encoder.parameters():
        if id(parameter) in linear:
            parameter.data = parameter.data.to(dtype)
        elif parameter.is_floating_point():
            parameter.data = parameter.data.float()
