"""How a run was made: what each stage's manifest says, and its training curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pertinent.report import numbers
from pertinent.report.run_files import FIELD_STAGES, STAGES, RunFiles, mapping

_WHAT = {
    "data": "read, checked, split by query",
    "captions": "captions of the items' images",
    "boards": "titles of the boards that items were saved to",
    "mine": "queries that led to engagement, from the log",
    "links": "titles and descriptions of linked pages",
    "text": "item text within the token budget",
    "teacher": "trained on human grades",
    "labels": "the teacher's soft labels",
    "student": "trained on soft labels, exported as a bundle",
    "evaluation": "every system on the held-out queries",
}


@dataclass(frozen=True)
class StageRow:
    """One stage: what it is, and what its manifest says; ``gap`` where there is no manifest."""

    stage: str
    what: str
    counts: tuple[tuple[str, str], ...] = ()
    quarantined: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: str = ""
    seed: str = ""
    version: str = ""
    created_at: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    config: str = ""
    gap: str = ""


@dataclass(frozen=True)
class Curve:
    """One training record, or the two of training and dev loss; series: name -> (step or epoch, value) pairs."""

    title: str
    axis: str
    series: Mapping[str, Sequence[tuple[float, float]]]


def stage_rows(run: RunFiles) -> list[StageRow]:
    """A row for each stage of the chain, in order."""
    # A stage of item fields has a row where the run has it; the others have one even where they are not done.
    ordered = (STAGES[0], *(stage for stage in run.manifests if stage in FIELD_STAGES), *STAGES[1:])
    return [_stage_row(stage, run.manifests.get(stage)) for stage in ordered]


def total_seconds(run: RunFiles) -> float:
    """Seconds of all stages together, as far as they are told."""
    return sum(numbers.measured(manifest.get("seconds")) or 0.0 for manifest in run.manifests.values())


def versions(run: RunFiles) -> str:
    """The package version of the stages, most used first; several where they differ."""
    found = Counter(str(m["package_version"]) for m in run.manifests.values() if m.get("package_version"))
    return ", ".join(version for version, _ in found.most_common())


def curves(run: RunFiles) -> list[Curve]:
    """The losses of each training in one plot, then a plot for each other number in its history."""
    found = []
    for stage, records in run.histories.items():
        keys = sorted({key for record in records for key in record} - {"step", "epoch"})
        axis = "step" if any("step" in record for record in records) else "epoch"
        series = {key: line for key in keys if (line := _line(records, axis, key))}
        losses: dict[str, list[tuple[float, float]]] = {
            key: series.pop(key) for key in ("loss", "dev_loss") if key in series
        }
        if losses:
            found.append(Curve(f"{stage.capitalize()}: {' and '.join(_words(k) for k in losses)}", axis, losses))
        found += [Curve(f"{stage.capitalize()}: {_words(key)}", axis, {key: line}) for key, line in series.items()]
    return found


def _line(records: Sequence[Mapping[str, Any]], axis: str, key: str) -> list[tuple[float, float]]:
    points = [(numbers.measured(r.get(axis)), numbers.measured(r.get(key))) for r in records]
    return [(x, value) for x, value in points if x is not None and value is not None]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _stage_row(stage: str, manifest: Mapping[str, Any] | None) -> StageRow:
    what = _WHAT[stage]
    if manifest is None:
        return StageRow(stage, what, gap=f"{stage}/manifest.json is missing: the stage did not finish, or was not run")
    seconds = numbers.measured(manifest.get("seconds"))
    inputs = [(f"input {name}", str(value)) for name, value in mapping(manifest.get("inputs")).items()]
    warnings = manifest.get("warnings")
    return StageRow(
        stage,
        what,
        counts=tuple(numbers.flat(mapping(manifest.get("counts")))),
        quarantined=tuple((str(r), numbers.plain(n)) for r, n in mapping(manifest.get("quarantined")).items()),
        warnings=tuple(str(warning) for warning in warnings) if isinstance(warnings, list) else (),
        seconds="" if seconds is None else numbers.duration(seconds),
        seed="" if manifest.get("seed") is None else str(manifest["seed"]),
        version=str(manifest.get("package_version") or ""),
        created_at=str(manifest.get("created_at") or ""),
        facts=(("key", str(manifest.get("key") or "none")), *inputs),
        config=config_text(manifest.get("config")),
    )


def config_text(config: Any) -> str:
    """A stage's resolved config as YAML; empty where there is none."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100) if config else ""
