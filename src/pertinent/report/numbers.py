"""Numbers as the report prints them, and the marked gap that stands for one that is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """One number of a table. A cell with a ``gap`` has no number: the gap is the sentence that says why."""

    text: str = ""
    interval: str = ""
    best: bool = False
    gap: str = ""


def measured(value: Any) -> float | None:
    """``value`` as a float, or None where it is not a finite number (null, NaN, text, true)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def measured_interval(value: Any) -> Interval | None:
    """``[low, high]`` as two floats, or None where it is anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = measured(value[0]), measured(value[1])
    return None if low is None or high is None else (low, high)


def decimals(value: float) -> str:
    """Three decimals without the leading zero: ``.719``, ``-.031``, ``1.000``."""
    text = f"{value:.3f}"
    if text.startswith("-0.") and float(text) == 0:
        return ".000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def signed(value: float) -> str:
    """A difference, with its sign: ``+.107``."""
    text = decimals(value)
    return text if text.startswith("-") else f"+{text}"


def interval_text(interval: Interval | None) -> str:
    """``[.702, .733]``, or nothing where there is no interval."""
    return "" if interval is None else f"[{decimals(interval[0])}, {decimals(interval[1])}]"


def count(value: float) -> str:
    """A whole number with thousands separated: ``1,480``."""
    return f"{round(value):,}"


def percent(share: float) -> str:
    """A share in whole percent: ``82%``."""
    return f"{round(100 * share)}%"


def duration(seconds: float) -> str:
    """``4.2 s``, ``7 min 12 s`` or ``1 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A tree of counts as ``(name, value)`` lines: ``n_dev_pairs`` reads ``dev pairs``, a nested one ``section / name``."""
    lines: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = prefix + str(key).removeprefix("n_").replace("_", " ")
        if isinstance(value, Mapping):
            lines += flat(value, f"{name} / ")
        else:
            lines.append((name, plain(value)))
    return lines


def plain(value: Any) -> str:
    """A JSON value in words: whole numbers with thousands, others with at most four digits, lists with commas."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(part) for part in value) or "none"
    return str(value)
