"""How faithfully the student repeats the teacher, and which features it does it with: rows and points for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pertinent.report import numbers
from pertinent.report.definitions import natural_key, slice_name
from pertinent.report.numbers import Cell
from pertinent.report.run_files import mapping

HEADINGS = ("Agreement", "Within one", "KL (nats)", "Bias of gain", "Teacher right", "Student right")
_KEYS = ("agreement", "within_1", "kl_nats", "bias", "reference_accuracy", "system_accuracy")
MAX_FEATURES = 15


@dataclass(frozen=True)
class FidelityTable:
    """A line of cells under HEADINGS for each value of a column; column is empty for all pairs together."""

    column: str
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]  # value, pairs, cells


@dataclass(frozen=True)
class GainBins:
    """Mean gain in 0-1 of the student's bins, from low to high: its own, the teacher's and people's."""

    student: tuple[float, ...]
    teacher: tuple[float, ...]
    human: tuple[float, ...]


def fidelity_tables(metrics: Mapping[str, Any]) -> list[FidelityTable]:
    """All pairs, then a table a column; none where the fidelity was not measured."""
    found = mapping(metrics.get("fidelity"))
    if not found:
        return []
    tables = [FidelityTable("", (_row("All pairs", found),))]
    for column, values in mapping(found.get("slices")).items():
        rows = tuple(_row(value, mapping(values[value])) for value in sorted(values, key=natural_key))
        tables.append(FidelityTable(slice_name(column), rows))
    return tables


def gain_bins(metrics: Mapping[str, Any]) -> GainBins | None:
    """The bins of the plot, or None where there are none."""
    bins = mapping(metrics.get("fidelity")).get("bins")
    if not isinstance(bins, list) or not bins:
        return None
    columns = ([numbers.measured(mapping(b).get(key)) for b in bins] for key in ("system", "reference", "human"))
    student, teacher, human = (tuple(v for v in column if v is not None) for column in columns)
    return GainBins(student, teacher, human) if len(student) == len(teacher) == len(human) else None


def important_features(importance: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and fall of the mean AUROC of the MAX_FEATURES features that matter most, those without a fall left out."""
    drops = [(str(row.get("feature")), numbers.measured(row.get("auroc_drop"))) for row in importance]
    shown = [(name, drop) for name, drop in drops if drop is not None and drop > 0]
    return [(name, numbers.decimals(drop)) for name, drop in shown[:MAX_FEATURES]]


def _row(name: str, document: Mapping[str, Any]) -> tuple[str, str, tuple[Cell, ...]]:
    size = numbers.measured(document.get("n_pairs"))
    intervals = mapping(document.get("intervals"))
    cells = []
    for key in _KEYS:
        value = numbers.measured(document.get(key))
        interval = numbers.interval_text(numbers.measured_interval(intervals.get(key)))
        shown = numbers.signed if key == "bias" else numbers.decimals
        cells.append(Cell(gap="not measured") if value is None else Cell(shown(value), interval))
    return name, "" if size is None else numbers.count(size), tuple(cells)
