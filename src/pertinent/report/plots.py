"""The report's plots. Each function takes plain numbers and returns one inline SVG of a width that fits a phone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pertinent.report.definitions import Metric, slice_name, system_name
from pertinent.report.drawing import Drawing, Scale, shortened, steps, system_class, x_axis, y_axis
from pertinent.report.faithfulness import GainBins
from pertinent.report.numbers import count, decimals, interval_text
from pertinent.report.scaling import Scaling
from pertinent.report.tables import Results, SliceTable

WIDTH = 350.0
_LABELS = 84.0
_RIGHT = WIDTH - 14.0


def domain(results: Sequence[Results], systems: Sequence[str], metrics: Sequence[Metric]) -> tuple[float, float] | None:
    """The common axis of several panels: every value and interval end, rounded out to .05; None with no value."""
    ends: list[float] = []
    for result in results:
        for system in systems:
            for metric in metrics:
                value = result.value(system, metric.key)
                if value is not None:
                    ends += [value, *(result.interval(system, metric.key) or ())]
    if not ends:
        return None
    low, high = math.floor(min(ends) * 20 - 1e-9) / 20, math.ceil(max(ends) * 20 + 1e-9) / 20
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def threshold_panel(
    ident: str, results: Results, systems: Sequence[str], metric: Metric, axis: tuple[float, float]
) -> Markup:
    """A line a system: its mark at the value, a whisker over the 95% interval, the number beside its name."""
    height = 34.0 + 25 * len(systems) + 22
    spoken = "; ".join(f"{system_name(s)} {_spoken(results, s, metric)}" for s in systems)
    drawing = Drawing(ident, WIDTH, height, f"{metric.name} by system", f"{spoken}.")
    drawing.text(0, 15, metric.name, "plot-title")
    x = Scale(*axis, _LABELS + 42, _RIGHT)
    x_axis(drawing, x, 28, height - 22)
    for row, system in enumerate(systems):
        y = 42 + 25 * row
        value, interval = results.value(system, metric.key), results.interval(system, metric.key)
        drawing.text(0, y + 4, shortened(system_name(system), 13), f"label {system_class(system)}-label")
        drawing.text(_LABELS + 32, y + 4, "–" if value is None else decimals(value), "number", "end")
        if interval is not None and value is not None:
            drawing.line(x(interval[0]), y, x(interval[1]), y, f"whisker {system_class(system)}")
        if value is not None:
            drawing.mark(system, x(value), y)
    return drawing.render()


def slice_panel(ident: str, table: SliceTable, axis: tuple[float, float]) -> Markup:
    """A line a slice: every system's mark on a common axis, with the student's 95% interval."""
    height = 34.0 + 25 * len(table.rows) + 22
    title = f"{table.metric.name} by {slice_name(table.column)}"
    said = (
        f"{row.value}: student {_spoken(row.results, 'student', table.metric)}, "
        + ", ".join(standing.sentence for standing in row.standings)
        for row in table.rows
    )
    drawing = Drawing(ident, WIDTH, height, title, f"{'; '.join(said)}.")
    drawing.text(0, 15, table.metric.name, "plot-title")
    x = Scale(*axis, _LABELS + 12, _RIGHT)
    x_axis(drawing, x, 28, height - 22)
    for number, row in enumerate(table.rows):
        y = 42 + 25 * number
        drawing.text(0, y + 4, shortened(row.value, 13), "label small-slice" if row.is_small else "label")
        values = {s: v for s in table.systems if (v := row.results.value(s, table.metric.key)) is not None}
        if len(values) > 1:
            drawing.line(x(min(values.values())), y, x(max(values.values())), y, "span")
        interval = row.results.interval("student", table.metric.key)
        if interval is not None and "student" in values:
            drawing.line(x(interval[0]), y, x(interval[1]), y, "whisker system-student")
        for system, value in values.items():
            drawing.mark(system, x(value), y, 4.5)
        if not values:
            drawing.text(x.start + 4, y + 4, "no number", "muted")
    return drawing.render()


def legend(systems: Sequence[str]) -> Markup:
    """The marks and names of the systems, in one line."""
    items = []
    for system in systems:
        drawing = Drawing("", 14, 14, "", "")
        drawing.mark(system, 7, 7, 4.5)
        items.append(
            Markup('<li><svg class="key" aria-hidden="true" viewBox="0 0 14 14">{}</svg>{}</li>').format(
                drawing.inside(), system_name(system)
            )
        )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def reliability_panel(
    ident: str, system: str, stated: NDArray[np.float64], true: NDArray[np.float64], ece: float | None
) -> Markup:
    """Stated against true accuracy of the top label, a mark a bin; on the diagonal the two agree.

    stated, true: shape (bins,), mean confidence and share right of each bin, in [0, 1].
    """
    heading = f"{system_name(system)}" + ("" if ece is None else f"  ·  ECE {decimals(ece)}")
    said = "; ".join(f"stated {decimals(a)}, true {decimals(b)}" for a, b in zip(stated, true, strict=True))
    drawing = Drawing(ident, WIDTH, 330, f"Reliability of the {system_name(system)}", f"{said}.")
    drawing.text(0, 15, heading, "plot-title")
    x, y = Scale(0, 1, 44, _RIGHT), Scale(0, 1, 284, 30)
    x_axis(drawing, x, 30, 284)
    y_axis(drawing, y, 44, _RIGHT)
    drawing.line(x(0), y(0), x(1), y(1), "diagonal")
    points = [(x(a), y(b)) for a, b in zip(stated.tolist(), true.tolist(), strict=True)]
    for (px, py), a in zip(points, stated.tolist(), strict=True):
        drawing.line(px, y(a), px, py, f"whisker {system_class(system)}")
    for px, py in points:
        drawing.mark(system, px, py, 4.5)
    drawing.text((44 + _RIGHT) / 2, 322, "stated probability of the top grade", "muted", "middle")
    drawing.text(x(0) + 6, 44, "share right", "muted")
    return drawing.render()


def gain_panel(ident: str, bins: GainBins) -> Markup:
    """The student's mean gain of ten bins of pairs against the teacher's and people's; on the diagonal they are the same."""
    points = zip(bins.student, bins.teacher, bins.human, strict=True)
    said = "; ".join(f"student {decimals(s)}, teacher {decimals(t)}, people {decimals(h)}" for s, t, h in points)
    drawing = Drawing(ident, WIDTH, 330, "Expected gain of the student against teacher and people", f"{said}.")
    drawing.text(0, 15, "Expected gain", "plot-title")
    x, y = Scale(0, 1, 44, _RIGHT), Scale(0, 1, 284, 30)
    x_axis(drawing, x, 30, 284)
    y_axis(drawing, y, 44, _RIGHT)
    drawing.line(x(0), y(0), x(1), y(1), "diagonal")
    for stated, teacher, human in zip(bins.student, bins.teacher, bins.human, strict=True):
        drawing.mark("human", x(stated), y(human), 4.5)
        drawing.mark("teacher", x(stated), y(teacher), 4.5)
    drawing.text((44 + _RIGHT) / 2, 322, "student’s expected gain", "muted", "middle")
    drawing.text(x(0) + 6, 44, "teacher’s (diamond), people’s (ring)", "muted")
    return drawing.render()


def histogram_panel(
    ident: str, system: str, grades: NDArray[np.int64], scores: NDArray[np.float64], n_grades: int
) -> Markup:
    """The spread of a system's score at each human grade, highest grade on top, with the median of each.

    grades, scores: shape (pairs,), stored grade and finite score of the same pairs.
    """
    low, high = float(scores.min()), float(scores.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    height = 28.0 + 46 * n_grades + 40
    medians = {g: float(np.median(scores[grades == g])) for g in range(n_grades) if (grades == g).any()}
    said = "; ".join(f"L{g + 1} median {m:.3g}" for g, m in medians.items())
    drawing = Drawing(ident, WIDTH, height, f"Score of the {system_name(system)} by human grade", f"{said}.")
    drawing.text(0, 15, system_name(system), "plot-title")
    x = Scale(low, high, 66, _RIGHT)
    edges = np.linspace(low, high, 33)
    shares = {g: np.histogram(scores[grades == g], edges)[0] / (grades == g).sum() for g in medians}
    tallest = max((float(s.max()) for s in shares.values()), default=1.0)
    x_axis(drawing, x, 24, height - 40)
    for row, grade in enumerate(reversed(range(n_grades))):
        base = 28.0 + 46 * (row + 1)
        drawing.line(66, base, _RIGHT, base, "grid")
        drawing.text(0, base - 16, f"L{grade + 1}", "label")
        drawing.text(0, base - 2, f"{int((grades == grade).sum()):,}", "muted")
        if grade in shares:
            drawing.path(
                steps(x, edges, base - shares[grade] / tallest * 38, base), f"area {system_class(system)}", True
            )
            drawing.line(x(medians[grade]), base, x(medians[grade]), base - 40, f"median {system_class(system)}")
    drawing.text((66 + _RIGHT) / 2, height - 4, "score", "muted", "middle")
    return drawing.render()


def scaling_panel(ident: str, scaling: Scaling) -> Markup:
    """The student by number of labels (a log axis) with 95% intervals, and the teacher as a dashed line."""
    drawn = [(point.n_labels, point.value, point.interval) for point in scaling.points if point.value is not None]
    ends = [end for _, value, interval in drawn for end in (value, *(interval or ()))]
    ends += [] if scaling.teacher is None else [scaling.teacher]
    low, high = math.floor(min(ends) * 50 - 1e-9) / 50, min(math.ceil(max(ends) * 50 + 1e-9) / 50, 1.0)
    spoken = "; ".join(f"{count(n)} labels {decimals(v)} {interval_text(i)}".strip() for n, v, i in drawn)
    spoken += "" if scaling.teacher is None else f"; the teacher {decimals(scaling.teacher)}"
    drawing = Drawing(ident, WIDTH, 240, f"{scaling.metric.name} of the student by number of labels", f"{spoken}.")
    drawing.text(0, 15, scaling.metric.name, "plot-title")
    x = Scale(math.log10(drawn[0][0]), math.log10(drawn[-1][0]), 62, _RIGHT - 22)
    y = Scale(low, high, 190, 30)
    y_axis(drawing, y, 46, _RIGHT)
    if scaling.teacher is not None:
        drawing.line(46, y(scaling.teacher), _RIGHT, y(scaling.teacher), "ceiling")
        drawing.text(_RIGHT, y(scaling.teacher) - 5, "teacher", "muted", "end")
    drawing.path([(x(math.log10(n)), y(v)) for n, v, _ in drawn], "curve curve-0")
    for n, value, interval in drawn:
        px = x(math.log10(n))
        if interval is not None:
            drawing.line(px, y(interval[0]), px, y(interval[1]), "whisker system-student")
        drawing.mark("student", px, y(value), 4.5)
        drawing.text(px, 206, _thousands(n), "tick", "middle")
    drawing.text((46 + _RIGHT) / 2, 232, "labels by the teacher", "muted", "middle")
    return drawing.render()


def curve_panel(ident: str, title: str, axis: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Training records by ``axis`` (step or epoch): a line a series; a series of few points has its points marked.

    series: name -> (step or epoch, value) pairs; at least one pair in all. At most two series share a panel.
    """
    points = [p for line in series.values() for p in line]
    steps, values = [p[0] for p in points], [p[1] for p in points]
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or max(abs(high) * 0.1, 0.05)
    said = "; ".join(f"{name} from {line[0][1]:.4g} to {line[-1][1]:.4g}" for name, line in series.items() if line)
    drawing = Drawing(ident, WIDTH, 220, title, f"{said}.")
    drawing.text(0, 15, title, "plot-title")
    x = Scale(min(steps), max(steps), 46, _RIGHT)
    y = Scale(low - margin, high + margin, 178, 28)
    x_axis(drawing, x, 28, 178)
    y_axis(drawing, y, 46, _RIGHT)
    for number, line in enumerate(series.values()):
        drawn = [(x(step), y(value)) for step, value in line]
        if len(drawn) > 1:
            drawing.path(drawn, f"curve curve-{number}")
        if len(drawn) <= 24:
            for point in drawn:
                drawing.circle(*point, 2.6, f"curve-point curve-{number}")
    drawing.text((46 + _RIGHT) / 2, 214, axis, "muted", "middle")
    return drawing.render()


def _spoken(results: Results, system: str, metric: Metric) -> str:
    value = results.value(system, metric.key)
    if value is None:
        return "no number"
    return f"{decimals(value)} {interval_text(results.interval(system, metric.key))}".strip()


def _thousands(number: int) -> str:
    """``1.2k``, ``30M``: a number of labels in the room that a tick has."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= 0.9995 * size:  # which three digits round to 1000 of the smaller unit
            return f"{number / size:.3g}{letter}"
    return str(number)
