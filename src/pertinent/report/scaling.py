"""How the student grows with its teacher's labels: what evaluation/label_scaling.json says, where a run has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pertinent.report import numbers
from pertinent.report.definitions import Metric, metrics_of
from pertinent.report.numbers import Cell, Interval
from pertinent.report.run_files import mapping


@dataclass(frozen=True)
class Point:
    """The student on so many labels: its value and interval, None where not measured."""

    n_labels: int
    value: float | None
    interval: Interval | None

    @property
    def cell(self) -> Cell:
        """The value as printed."""
        if self.value is None:
            return Cell(gap="not defined on these pairs")
        return Cell(numbers.decimals(self.value), numbers.interval_text(self.interval))


@dataclass(frozen=True)
class Scaling:
    """The student by number of labels, fewest first, and the teacher, which it cannot be told to pass."""

    metric: Metric
    points: tuple[Point, ...]
    teacher: float | None

    @property
    def drawable(self) -> bool:
        """Whether there are two points to draw a line through."""
        return sum(point.value is not None for point in self.points) > 1


def label_scaling(document: Mapping[str, Any], n_grades: int) -> Scaling | None:
    """What the file says, or None where there is none or it has no point."""
    metrics = {metric.key: metric for metric in metrics_of(n_grades)}
    metric = metrics.get(str(document.get("metric")))
    listed = document.get("points")
    if metric is None or not isinstance(listed, list):
        return None
    points = []
    for each in map(mapping, listed):
        n_labels = numbers.measured(each.get("n_labels"))
        if n_labels is not None and n_labels > 0:
            value = numbers.measured(mapping(each.get("metrics")).get(metric.key))
            interval = numbers.measured_interval(mapping(each.get("intervals")).get(metric.key))
            points.append(Point(int(n_labels), value, interval))
    if not points:
        return None
    teacher = numbers.measured(mapping(mapping(document.get("ceiling")).get("metrics")).get(metric.key))
    return Scaling(metric, tuple(sorted(points, key=lambda point: point.n_labels)), teacher)
