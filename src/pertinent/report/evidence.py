"""What the figures can bear: the student's differences with their tests, and how far human raters agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pertinent.evaluation.raters import HUMAN, LEVELS
from pertinent.report import numbers
from pertinent.report.definitions import Metric, in_order, metrics_of, system_name
from pertinent.report.numbers import Cell
from pertinent.report.run_files import mapping

_AGAINST = {"accuracy": "Accuracy", "within_1": "Within one", "qwk": "QWK"}


@dataclass(frozen=True)
class DifferenceRow:
    """The student less one system by one metric: with its interval, the adjusted p-value, and what could be found."""

    baseline: str
    metric: Metric
    difference: Cell
    p_value: Cell
    detectable: Cell


@dataclass(frozen=True)
class Agreement:
    """Alpha by level, and each system, "another rating" first, against one rating of a pair by each of ``metrics``."""

    n_pairs: str
    n_ratings: str
    alpha: tuple[tuple[str, Cell], ...]
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def difference_rows(metrics: Mapping[str, Any], n_grades: int) -> list[DifferenceRow]:
    """A row for each system that the student is compared with and each metric; none where nothing was compared."""
    rows = []
    for baseline, found in mapping(mapping(metrics.get("differences")).get("student")).items():
        for metric in metrics_of(n_grades):
            document = mapping(mapping(found).get(metric.key))
            if document:
                rows.append(_row(baseline, metric, document))
    return rows


def agreement_of(metrics: Mapping[str, Any]) -> Agreement | None:
    """How raters agree, or None where no pair was rated by two named raters."""
    raters = mapping(metrics.get("raters"))
    if not raters:
        return None
    against = mapping(raters.get("against_one_rating"))
    alpha = mapping(raters.get("alpha"))
    systems = [HUMAN, *in_order(set(against) - {HUMAN})]
    rows = tuple(
        (_shown(system), tuple(_cell(mapping(against[system]).get(key)) for key in _AGAINST))
        for system in systems
        if system in against
    )
    sizes = [numbers.measured(raters.get(key)) for key in ("n_pairs", "n_ratings")]
    told = ["" if size is None else numbers.count(size) for size in sizes]
    levels = tuple((level, _cell(alpha.get(level))) for level in LEVELS)
    return Agreement(told[0], told[1], levels, tuple(_AGAINST.values()), rows)


def _row(baseline: str, metric: Metric, document: Mapping[str, Any]) -> DifferenceRow:
    difference, p = numbers.measured(document.get("difference")), numbers.measured(document.get("p_adjusted"))
    detectable = numbers.measured(document.get("detectable"))
    interval = numbers.interval_text(numbers.measured_interval(document.get("interval")))
    return DifferenceRow(
        baseline,
        metric,
        Cell(gap=f"{metric.name} is not defined for both")
        if difference is None
        else Cell(numbers.signed(difference), interval),
        Cell(gap="no test was made") if p is None else Cell(p_text(p)),
        Cell(gap="too few queries") if detectable is None else Cell(numbers.decimals(detectable)),
    )


def p_text(p: float) -> str:
    """A p-value as printed: ``.031``, or ``< .001``."""
    return "< .001" if p < 0.001 else numbers.decimals(p)


def _shown(system: str) -> str:
    return "Another rating" if system == HUMAN else system_name(system)


def _cell(document: Any) -> Cell:
    value = numbers.measured(mapping(document).get("value"))
    if value is None:
        return Cell(gap="not defined on these ratings")
    return Cell(
        numbers.decimals(value), numbers.interval_text(numbers.measured_interval(mapping(document).get("interval")))
    )
