"""The whole chain on a data set: figures of all six systems, and the seconds of each stage.

    python benchmarks/pipeline.py homedepot          (PERTINENT_DATA set)

Runs configs/NAME.yaml, or takes a run that is up to date, and writes benchmarks/results/pipeline_NAME.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from pertinent.cli.tables import print_metrics
from pertinent.files import write_json
from pertinent.pipeline import load_run_config, run_pipeline

ROOT = Path(__file__).parent.parent
PACKAGES = ("pertinent", "torch", "transformers", "onnxruntime", "numpy", "polars")
# What a first sketch reached on Home Depot, on a split of its own: the floor. system -> metric -> value.
HOMEDEPOT_FLOORS = {
    "teacher": {"accuracy": 0.468, "auroc_3+": 0.756, "auroc_4+": 0.737, "auroc_5+": 0.791},
    "student": {"accuracy": 0.460, "auroc_3+": 0.735, "auroc_4+": 0.719, "auroc_5+": 0.766},
}
MINUTES = {"homedepot": 45, "esci_us_small": 20, "pinboard": 8}


def main() -> None:
    """Run, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", choices=sorted(MINUTES))
    name = parser.parse_args().name
    config = load_run_config(ROOT / "configs" / f"{name}.yaml")
    outcome = run_pipeline(config)
    metrics, stages = outcome["metrics"], outcome["stages"]
    seconds = {stage: manifest["seconds"] for stage, manifest in stages.items()}
    rows = [
        {
            "system": system,
            **metrics["systems"][system],
            "intervals": metrics["intervals"][system],
            "languages": {
                value: part["systems"][system] for value, part in metrics["slices"].get("language", {}).items()
            },
        }
        for system in metrics["system_order"]
    ]
    document = {
        "benchmark": f"pipeline_{name}",
        "command": f"python benchmarks/pipeline.py {name}",
        "seeds": [config.seed],
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "machine": machine(),
        "commit": commit(),
        "date": stages["evaluation"]["created_at"][:10],
        "seconds": round(sum(seconds.values()), 1),
        "stage_seconds": seconds,
        "counts": {stage: manifest["counts"] for stage, manifest in stages.items()},
        "rows": rows,
        "targets": targets(name, metrics, sum(seconds.values())),
    }
    print_metrics(metrics)
    for target in document["targets"]:
        print(
            f"{'met   ' if target['met'] else 'MISSED'} {target['name']}: {target['measured']} (aim {target['direction']} {target['aim']})"
        )
    write_json(ROOT / "benchmarks" / "results" / f"pipeline_{name}.json", document)


def targets(name: str, metrics: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Each aim with its figure."""
    found = [target("minutes", MINUTES[name], "<=", round(seconds / 60, 1))]
    if name == "homedepot":
        for system, floors in HOMEDEPOT_FLOORS.items():
            for metric, floor in floors.items():
                found.append(target(f"{system} {metric}", floor, ">=", round(metrics["systems"][system][metric], 4)))
    if name == "pinboard":
        for language, part in metrics["slices"]["language"].items():
            for baseline in ("bm25", "embedding"):
                above = part["systems"]["student"]["auroc_4+"] - part["systems"][baseline]["auroc_4+"]
                found.append(target(f"student above {baseline} in {language}, AUROC 4+", 0.0, ">=", round(above, 4)))
    return found


def target(name: str, aim: float, direction: str, measured: float) -> dict[str, Any]:
    """One entry of "targets"."""
    met = measured >= aim if direction == ">=" else measured <= aim
    return {"name": name, "aim": aim, "direction": direction, "measured": measured, "met": met}


def machine() -> str:
    """Processor, cores and operating system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    flags = next((line for line in lines if line.startswith("flags")), "")
    amx = ", AMX bf16" if "amx_bf16" in flags else ""
    return f"{model}{amx}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


def commit() -> str:
    """The commit that ran."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
