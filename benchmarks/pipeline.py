"""The whole chain on a data set: figures of all six systems, and the seconds of each stage.

    python benchmarks/pipeline.py                    (PERTINENT_DATA set: Home Depot and ESCI)
    python benchmarks/pipeline.py pinboard
    python benchmarks/pipeline.py --rows 'homedepot/*'

Runs configs/NAME.yaml into runs/NAME, or takes what is up to date there, and merges a row for each data set and system
into benchmarks/results/pipeline.json. Every stage must be made by the code as it is.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from common import (
    ROOT,
    Row,
    Target,
    chosen_rows,
    new_row,
    parser_of,
    print_targets,
    require_current_code,
    results_folder,
    run_main,
    write_results,
)
from pertinent.cli.tables import print_metrics
from pertinent.data.pinboard import LANGUAGES
from pertinent.errors import ConfigError
from pertinent.pipeline import RunConfig, load_run_config, run_pipeline
from pertinent.pipeline.differences import BASELINES
from pertinent.pipeline.evaluate import SYSTEMS
from pertinent.report.definitions import main_threshold

MINUTES = {"homedepot": 45, "esci_us_small": 20, "pinboard": 8}
DEFAULT = ("homedepot", "esci_us_small")
# What a first sketch reached on Home Depot, on a split of its own: the floor. system -> metric -> value.
HOMEDEPOT_FLOORS = {
    "teacher": {"accuracy": 0.468, "auroc_3+": 0.756, "auroc_4+": 0.737, "auroc_5+": 0.791},
    "student": {"accuracy": 0.460, "auroc_3+": 0.735, "auroc_4+": 0.719, "auroc_5+": 0.766},
}
# Strictly above: at least one in the last of the four decimals that are kept.
ABOVE = 0.0001
QUICK = (
    "teacher.epochs=1",
    "teacher.max_train_rows=300",
    "labels.log_pairs=200",
    "labels.pool_per_query=1",
    "labels.pool_depth=20",
    "student.epochs=2",
    "evaluation.resamples=50",
)


def main() -> None:
    """Run the data sets, print their tables, merge their rows into the results file."""
    started = time.monotonic()
    parser = parser_of(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MINUTES)}; default: {DEFAULT}")
    arguments = parser.parse_args()
    names = data_sets(arguments.names, arguments.rows, quick=arguments.quick)
    wanted = set(chosen_rows([f"{name}/{system}" for name in names for system in SYSTEMS], arguments.rows))
    rows: list[Row] = []
    seeds = set()
    for name in [name for name in names if any(row.startswith(f"{name}/") for row in wanted)]:
        config = config_of(name, quick=arguments.quick)
        if arguments.quick:
            shutil.rmtree(config.folder, ignore_errors=True)
        outcome = run_pipeline(config)
        require_current_code(outcome["stages"], config.folder)
        print_metrics(outcome["metrics"])
        rows += [row for row in rows_of(name, outcome) if row.name in wanted]
        seeds.add(config.seed)
    document = write_results(
        "pipeline", rows, targets, seeds=sorted(seeds), started=started, folder=results_folder(arguments)
    )
    print_targets(document)


def data_sets(names: Sequence[str], patterns: Sequence[str] | None, *, quick: bool) -> list[str]:
    """The data sets to run. --rows may name any; without a name, Pinboard for --quick, else the real ones."""
    for name in names:
        if name not in MINUTES:
            raise ConfigError(f"data set: expected one of {', '.join(MINUTES)}, found {name}")
    if names:
        return list(dict.fromkeys(names))
    if patterns:
        return list(MINUTES)
    return ["pinboard"] if quick else list(DEFAULT)


def config_of(name: str, *, quick: bool) -> RunConfig:
    """The shipped config of a data set; with quick, a few minutes' part of it in a run folder of its own."""
    output = ROOT / "runs" / "quick" if quick else ROOT / "runs"
    overrides = [f"output={output}"]
    if quick:
        overrides += [*QUICK, *(["data.pinboard.size=tiny"] if name == "pinboard" else [])]
    return load_run_config(ROOT / "configs" / f"{name}.yaml", overrides)


def rows_of(name: str, outcome: Mapping[str, Any]) -> list[Row]:
    """A row for each system of a run. seconds: of all stages of the run, which every system's figures rest on."""
    metrics, stages = outcome["metrics"], outcome["stages"]
    languages = metrics["slices"].get("language", {})
    rows = []
    for system in metrics["system_order"]:
        figures = {
            "dataset": name,
            "system": system,
            **metrics["systems"][system],
            "intervals": metrics["intervals"][system],
            "languages": {value: part["systems"][system] for value, part in languages.items()},
            "stage_seconds": {stage: manifest["seconds"] for stage, manifest in stages.items()},
            "code": stages["evaluation"]["code"],
            "backbone": stages["evaluation"]["counts"]["embedding"],
        }
        if system in metrics["differences"]:
            figures["differences"] = metrics["differences"][system]
            figures["language_differences"] = {value: part["differences"][system] for value, part in languages.items()}
        date = stages["evaluation"]["created_at"][:10]
        rows.append(new_row(f"{name}/{system}", figures, outcome["seconds"], date=date))
    return rows


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Every aim with its figure: time, the floors on Home Depot, and each language of Pinboard."""
    found = []
    for name, minutes in MINUTES.items():
        seconds = figure(rows.get(f"{name}/student", {}), "seconds")
        found.append(Target(f"{name}: minutes", minutes, "<=", None if seconds is None else round(seconds / 60, 1)))
    for system, floors in HOMEDEPOT_FLOORS.items():
        for metric, floor in floors.items():
            measured = figure(rows.get(f"homedepot/{system}", {}), metric)
            found.append(Target(f"homedepot: {system} {metric}", floor, ">=", measured))
    return found + language_targets(rows)


def language_targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Of Pinboard: the student above BM25 and above the embedding in every language, by the paired difference."""
    by_language = rows.get("pinboard/student", {}).get("language_differences", {})
    metric = f"auroc_{main_threshold(5)}+"
    found = []
    for language in LANGUAGES:
        for baseline in BASELINES:
            paired = by_language.get(language, {}).get(baseline, {}).get(metric, {})
            name = f"pinboard: student above {baseline} in {language}, {metric}"
            found.append(Target(name, ABOVE, ">=", figure(paired, "difference")))
    return found


def figure(row: Mapping[str, Any], key: str) -> float | None:
    """A figure with four decimals; None where the row is absent or has none."""
    value = row.get(key)
    return None if value is None else round(float(value), 4)


if __name__ == "__main__":
    run_main(main)
