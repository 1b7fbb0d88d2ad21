"""Tables and figures as Markdown, for the page of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pertinent.report.numbers import decimals


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def cell(row: Mapping[str, Any], metric: str) -> str:
    """A figure with its interval."""
    spread = row["intervals"].get(metric)
    return number(row[metric]) + (f" <sub>{number(spread[0])}-{number(spread[1])}</sub>" if spread else "")


def interval(ends: Sequence[float] | None) -> str:
    """``[.010, .052]`` after a space, or nothing."""
    return "" if ends is None else f" [{decimals(ends[0])}, {decimals(ends[1])}]"


def number(value: float | None) -> str:
    """Three decimals, as in ".719"; "-" where there is none."""
    return "-" if value is None else decimals(value)


def shown(metric: str) -> str:
    """A metric's name as shown."""
    return metric.replace("auroc_", "AUROC ")


def target_lines(targets: Sequence[Mapping[str, Any]]) -> str:
    """How many aims were met, and each that was not or has no figure yet."""
    n_met = sum(bool(target["met"]) for target in targets)
    lines = [f"Targets met: {n_met} of {len(targets)}."]
    for target in targets:
        aim = f"aim {target['direction']} {target['aim']}"
        if target["measured"] is None:
            lines.append(f"- Not measured yet: {target['name']}, {aim}")
        elif not target["met"]:
            lines.append(f"- Missed: {target['name']}: {target['measured']}, {aim}")
    return "\n".join(lines)
