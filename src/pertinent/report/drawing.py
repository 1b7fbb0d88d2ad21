"""A small SVG canvas. Colours come from the page's style sheet by class, so a drawing follows dark mode and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

# A mark a system, so that systems can be told apart without colour.
_MARKS = {"student": "disc", "teacher": "diamond", "bm25": "square", "embedding": "triangle"}


@dataclass(frozen=True)
class Scale:
    """A straight line from numbers to pixels: ``low`` is drawn at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``, kept inside the axis."""
        width = self.high - self.low
        share = (value - self.low) / width if width > 0 else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


@dataclass
class Drawing:
    """An SVG of ``width`` by ``height`` pixels; ``title`` and ``description`` are read aloud in its place."""

    ident: str
    width: float
    height: float
    title: str
    description: str
    _parts: list[Markup] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line."""
        self._add('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>', css, _px(x1), _px(y1), _px(x2), _px(y2))

    def path(self, points: Sequence[tuple[float, float]], css: str, closed: bool = False) -> None:
        """A line through ``points``, or the area they enclose."""
        steps = " ".join(f"{'L' if i else 'M'}{_px(x)} {_px(y)}" for i, (x, y) in enumerate(points))
        self._add('<path class="{}" d="{}"/>', css, steps + (" Z" if closed else ""))

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        """A disc."""
        self._add('<circle class="{}" cx="{}" cy="{}" r="{}"/>', css, _px(x), _px(y), _px(radius))

    def text(self, x: float, y: float, content: str, css: str = "", anchor: str = "start") -> None:
        """One line of text with its baseline at ``y``; anchor: start, middle or end."""
        self._add('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>', css, _px(x), _px(y), anchor, content)

    def mark(self, system: str, x: float, y: float, size: float = 5.0) -> None:
        """The mark of a system, centred on a point."""
        shape, css = _MARKS.get(system, "ring"), f"mark {system_class(system)}"
        if shape == "disc":
            self.circle(x, y, size, css)
        elif shape == "ring":
            self.circle(x, y, size - 1, f"{css} hollow")
        elif shape == "square":
            half = size - 0.8
            self.path(
                [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)], css, True
            )
        elif shape == "diamond":
            half = size + 0.8
            self.path([(x, y - half), (x + half, y), (x, y + half), (x - half, y)], css, True)
        else:
            self.path([(x, y - size), (x + size, y + size * 0.8), (x - size, y + size * 0.8)], css, True)

    def inside(self) -> Markup:
        """What was drawn, without the ``<svg>`` around it."""
        return Markup("").join(self._parts)

    def render(self) -> Markup:
        """The whole ``<svg>`` element."""
        head = Markup(
            '<svg class="plot" role="img" viewBox="0 0 {w} {h}" aria-labelledby="{i}-title {i}-desc">'
            '<title id="{i}-title">{title}</title><desc id="{i}-desc">{description}</desc>'
        ).format(w=_px(self.width), h=_px(self.height), i=self.ident, title=self.title, description=self.description)
        return head + self.inside() + Markup("</svg>")

    def _add(self, template: str, *values: str) -> None:
        self._parts.append(Markup(template).format(*(escape(value) for value in values)))


def system_class(system: str) -> str:
    """The CSS class of a system; never made from a name that a run chose."""
    return f"system-{system}" if system in _MARKS else "system-other"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers within ``[low, high]``, ``about`` of them, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(math.log(power * m / rough)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def tick_text(value: float, step: float) -> str:
    """A tick's number with as many decimals as its step needs, without a leading zero."""
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if 0 < step < 1 else 0
    text = f"{value:,.{places}f}"
    if float(text.replace(",", "")) == 0:
        return "0"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def x_axis(drawing: Drawing, x: Scale, top: float, bottom: float) -> None:
    """Ticks along the foot, with lines up to ``top``."""
    values = ticks(x.low, x.high, 5)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    for value in values:
        drawing.line(x(value), top, x(value), bottom, "grid")
        drawing.text(x(value), bottom + 16, tick_text(value, step), "tick", "middle")


def y_axis(drawing: Drawing, y: Scale, left: float, right: float) -> None:
    """Ticks at the left, with lines over to ``right``."""
    values = ticks(y.low, y.high)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    for value in values:
        drawing.line(left, y(value), right, y(value), "grid")
        drawing.text(left - 6, y(value) + 4, tick_text(value, step), "tick", "end")


def steps(x: Scale, edges: NDArray[np.float64], tops: NDArray[np.float64], base: float) -> list[tuple[float, float]]:
    """The outline of a histogram's bars, from the base and back to it. tops: in pixels."""
    outline = [(x(float(edges[0])), base)]
    for left, right, top in zip(edges[:-1].tolist(), edges[1:].tolist(), tops.tolist(), strict=True):
        outline += [(x(left), top), (x(right), top)]
    return [*outline, (x(float(edges[-1])), base)]


def shortened(text: str, length: int) -> str:
    """``text`` in at most ``length`` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
