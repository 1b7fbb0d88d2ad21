"""Which arithmetic a processor is fast in."""

from __future__ import annotations

from pathlib import Path

import torch


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
