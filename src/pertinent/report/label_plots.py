"""The label report's plots: grades of groups as stacked bars, and the spread of entropy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pertinent.report.drawing import Drawing, Scale, shortened, steps, ticks, x_axis
from pertinent.report.label_files import Group
from pertinent.report.numbers import count, percent

WIDTH = 350.0
_RIGHT = WIDTH - 14.0
_ROW = 30.0
_SHADES = 9


def grade_panel(ident: str, title: str, groups: Sequence[Group], *, titled: bool = True) -> Markup:
    """A bar a group, from the lowest grade (light) to the highest (dark), each as long as its mean probability.

    titled: whether the title is written over it; it is always read aloud.
    """
    start = 26.0 if titled else 2.0
    height = start + _ROW * len(groups) + 22
    said = "; ".join(
        f"{group.value}: " + ", ".join(f"L{k + 1} {percent(share)}" for k, share in enumerate(group.shares))
        for group in groups
    )
    drawing = Drawing(ident, WIDTH, height, title, f"{said}.")
    if titled:
        drawing.text(0, 15, title, "plot-title")
    x = Scale(0, 1, 0, _RIGHT)
    for row, group in enumerate(groups):
        top = start + _ROW * row
        drawing.text(0, top + 11, shortened(group.value, 36), "label")
        drawing.text(_RIGHT, top + 11, count(group.n_pairs), "muted", "end")
        ends = np.concatenate([[0.0], np.cumsum(group.shares)]).tolist()
        for grade, (left, right) in enumerate(itertools.pairwise(ends)):
            corners = [(x(left), top + 15), (x(right), top + 15), (x(right), top + 25), (x(left), top + 25)]
            drawing.path(corners, f"share {shade(grade, len(ends) - 1)}", True)
    base = start + _ROW * len(groups)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if value == 0 else "end" if value == 1 else "middle"
        drawing.text(x(value), base + 14, percent(value), "tick", anchor)
    return drawing.render()


def entropy_panel(ident: str, pairs: NDArray[np.int64], n_grades: int) -> Markup:
    """Share of the labels by entropy in nats, from sure (0) to even over the grades. pairs: (bins,) counts."""
    shares = pairs / max(int(pairs.sum()), 1)
    most = float(np.log(n_grades))
    edges = np.linspace(0, most, pairs.size + 1)
    median = float(edges[np.searchsorted(np.cumsum(shares), 0.5) + 1])
    drawing = Drawing(ident, WIDTH, 220, "Entropy of the labels", f"Half of the labels are below {median:.2f} nats.")
    drawing.text(0, 15, "Entropy of the labels", "plot-title")
    x, y = Scale(0, most, 46, _RIGHT), Scale(0, float(shares.max()) * 1.05, 178, 28)
    x_axis(drawing, x, 28, 178)
    for value in ticks(0, y.high):
        drawing.line(46, y(value), _RIGHT, y(value), "grid")
        drawing.text(40, y(value) + 4, percent(value), "tick", "end")
    tops = np.array([y(share) for share in shares.tolist()])
    drawing.path(steps(x, edges, tops, y(0)), "area system-teacher", True)
    drawing.text((46 + _RIGHT) / 2, 214, f"nats; {most:.2f} is an even label", "muted", "middle")
    return drawing.render()


def grade_legend(names: Sequence[str]) -> Markup:
    """The shade of each grade, in one line."""
    items = [
        Markup(
            '<li><svg class="key" aria-hidden="true" viewBox="0 0 14 14">'
            '<path class="share {}" d="M1 1 L13 1 L13 13 L1 13 Z"/></svg>{}</li>'
        ).format(shade(grade, len(names)), name)
        for grade, name in enumerate(names)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def shade(grade: int, n_grades: int) -> str:
    """The CSS class of a stored grade: shade-0 the lightest, shade-9 the darkest."""
    return f"shade-{round(grade / max(n_grades - 1, 1) * _SHADES)}"
