"""What the paper says, with its certainty, and how far figures of ours bear it out: a verdict by intervals alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from page_tables import interval, number
from pertinent.report.numbers import signed

AGREES, DISAGREES = "agrees", "does not agree"
UNDECIDED, UNMEASURED = "cannot be told", "not measured yet"
ORDER = (AGREES, DISAGREES, UNDECIDED, UNMEASURED)

Row = Mapping[str, Any]

# arXiv 2410.17152, human-labelled evaluation set: five-scale accuracy. A: stated by the authors or by two independent
# texts; B: one secondary text. Figures that nobody could check are not here.
PAPER_MODELS = (
    ("SearchSAGE embedding baseline", 0.503, "A"),
    ("mBERT-base", 0.535, "A"),
    ("T5-base", 0.569, "B"),
    ("mDeBERTa-V3-base", 0.580, "B"),
    ("Llama-3-8B (its best teacher)", 0.602, "A"),
    ("served student, 30 million teacher-labelled rows", 0.548, "B"),
)
PAPER_EMBEDDING, PAPER_SMALL, PAPER_TEACHER, PAPER_STUDENT = 0.503, 0.535, 0.602, 0.548


@dataclass(frozen=True)
class Claim:
    """One statement of the paper. says: in words. certainty: A or B. here: our figures. verdict: one of ORDER."""

    says: str
    certainty: str
    here: str
    verdict: str


def apart(says: str, certainty: str, higher: Row | None, lower: Row | None, metric: str) -> Claim:
    """That one row is above another, judged by whether their intervals are apart: two rows on the same pairs.

    Stricter than a paired test, which needs both systems' scores.
    """
    if higher is None or lower is None:
        return Claim(says, certainty, "-", UNMEASURED)
    above, below = _interval(higher, metric), _interval(lower, metric)
    here = f"{higher['row']} {_told(higher, metric)}, {lower['row']} {_told(lower, metric)}"
    here += f": {signed_percent(higher[metric] / lower[metric] - 1)}"
    if above is None or below is None:
        return Claim(says, certainty, here, UNDECIDED)
    return Claim(says, certainty, here, _verdict(above[0] - below[1], above[1] - below[0]))


def paired(says: str, certainty: str, found: Mapping[str, Any] | None, what: str) -> Claim:
    """That a paired difference is above 0. found: {"difference", "interval"}. what: of what, in words."""
    if found is None or found.get("difference") is None:
        return Claim(says, certainty, "-", UNMEASURED)
    spread = found.get("interval")
    here = f"{what} {signed(found['difference'])}{interval(spread)}"
    if spread is None:
        return Claim(says, certainty, here, UNDECIDED)
    return Claim(says, certainty, here, _verdict(*spread))


@dataclass(frozen=True)
class Standing:
    """The measures by which one row lies above another, those that do not tell them apart, and those by which it is below."""

    above: tuple[str, ...]
    untold: tuple[str, ...]
    below: tuple[str, ...]


def standing(row: Row, baseline: Row, metrics: Sequence[str], differences: Mapping[str, Any]) -> Standing:
    """Measure by measure, as far as both rows have intervals: two rows on the same pairs.

    differences: metric -> {"interval"} of the paired difference, which decides where it is known; else the two rows'
    intervals are apart or not, as in ``apart``.
    """
    found: dict[str, list[str]] = {AGREES: [], UNDECIDED: [], DISAGREES: []}
    for metric in metrics:
        ours, theirs = _interval(row, metric), _interval(baseline, metric)
        if ours is None or theirs is None:
            continue
        low, high = differences.get(metric, {}).get("interval") or (ours[0] - theirs[1], ours[1] - theirs[0])
        found[_verdict(low, high)].append(metric)
    return Standing(*map(tuple, found.values()))


def rising(says: str, certainty: str, steps: Sequence[tuple[str, float | None]]) -> Claim:
    """That a figure rises from step to step. steps: (name, mean over seeds), in order."""
    known = [(name, value) for name, value in steps if value is not None]
    if len(known) < len(steps) or len(known) < 2:
        return Claim(says, certainty, "-", UNMEASURED)
    here = ", ".join(f"{name} {number(value)}" for name, value in known)
    falls = [(a, b) for (a, before), (b, after) in pairwise(known) if after <= before]
    if not falls:
        return Claim(says, certainty, here, AGREES)
    return Claim(says, certainty, f"{here}; not from {', '.join(f'{a} to {b}' for a, b in falls)}", DISAGREES)


def sentence(claims: Sequence[Claim]) -> str:
    """What agrees and what does not, in one line."""
    found = []
    for verdict in ORDER:
        said = [claim.says for claim in claims if claim.verdict == verdict]
        if said:
            found.append(f"**{verdict.capitalize()}**: {'; '.join(said)}.")
    return " ".join(found)


def signed_percent(share: float) -> str:
    """``+19.7%``."""
    return f"{100 * share:+.1f}%"


def _verdict(low: float, high: float) -> str:
    """Of the ends of a difference's interval, or of the gaps between two intervals."""
    return AGREES if low > 0 else DISAGREES if high < 0 else UNDECIDED


def _interval(row: Row, metric: str) -> Sequence[float] | None:
    found: Sequence[float] | None = row.get("intervals", {}).get(metric)
    return found


def _told(row: Row, metric: str) -> str:
    return f"{number(row[metric])}{interval(_interval(row, metric))}"
