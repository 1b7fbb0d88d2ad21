"""One system against several others by many measures, overall and in slices, with corrected tests; and a gate on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pertinent.evaluation.intervals import RESAMPLES, Method
from pertinent.evaluation.measures import Measure, statistic_of
from pertinent.evaluation.significance import (
    ALPHA,
    PERMUTATIONS,
    Correction,
    adjust,
    difference_error,
    paired_difference,
    t_test,
)
from pertinent.evaluation.statistics import Statistic, value_of
from pertinent.evaluation.systems import Scored

Document = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How intervals and tests are made."""

    method: Method = "bootstrap"
    resamples: int = RESAMPLES
    permutations: int = PERMUTATIONS
    seed: int = 0
    undefined_as_zero: bool = False


def differences(
    system: Scored, baselines: Sequence[Scored], measures: Mapping[str, Measure], settings: Settings
) -> dict[str, dict[str, Document]]:
    """{baseline: {key of measure: the fields of PairedDifference}}, ``system`` less each baseline on the same queries."""
    found: dict[str, dict[str, Document]] = {}
    own = {
        key: statistic_of(each, system, undefined_as_zero=settings.undefined_as_zero) for key, each in measures.items()
    }
    for baseline in baselines:
        found[baseline.system.name] = {}
        for key, measure in measures.items():
            theirs = statistic_of(measure, baseline, undefined_as_zero=settings.undefined_as_zero)
            paired = paired_difference(
                own[key],
                theirs,
                method=settings.method,
                resamples=settings.resamples,
                permutations=settings.permutations,
                seed=settings.seed,
            )
            found[baseline.system.name][key] = asdict(paired)
    return found


def with_adjusted(documents: Sequence[Mapping[str, Document]], correction: Correction) -> None:
    """Add ``p_adjusted`` to each document of a difference: ``p_value`` corrected over all tests of the same measure.

    documents: {key of measure: document}, one for each baseline and slice.
    """
    for key in dict.fromkeys(key for part in documents for key in part):
        parts = [part[key] for part in documents if key in part]
        for part, p in zip(parts, adjust([part["p_value"] for part in parts], correction), strict=True):
            part["p_adjusted"] = p


@dataclass(frozen=True)
class Check:
    """One question of a gate: is the system significantly worse than the baseline by more than the margin?

    part: "overall" or "column=value". difference: system less baseline. p_value: one-sided, of a t-test by query that the
    difference is not below ``-margin``; p_adjusted by Holm over the checks of a gate. gap: why it could not be asked.
    """

    measure: str
    baseline: str
    part: str
    margin: float
    n_queries: int
    value: float | None
    baseline_value: float | None
    difference: float | None
    p_value: float | None
    p_adjusted: float | None = None
    worse: bool = False
    gap: str = ""


def check(measure: Measure, part: str, margin: float, system: Scored, baseline: Scored, settings: Settings) -> Check:
    """The check of one measure on one part of the pairs, before the correction; see Check."""
    zero = settings.undefined_as_zero
    ours, theirs = (statistic_of(measure, each, undefined_as_zero=zero) for each in (system, baseline))
    values = value_of(ours), value_of(theirs)
    n = int((ours.counted | theirs.counted).sum())
    known = (str(measure), baseline.system.name, part, margin, n, values[0], values[1])
    if values[0] is None or values[1] is None:
        return Check(*known, None, None, gap=f"{measure} is undefined on these pairs")
    difference = values[0] - values[1]
    return Check(*known, difference, _worse(measure, ours, theirs, difference, margin, n))


def judged(checks: Sequence[Check], alpha: float = ALPHA) -> list[Check]:
    """The checks with Holm's correction over those that could be asked, and whether each is significantly worse."""
    adjusted = adjust([each.p_value for each in checks], "holm")
    return [
        Check(**{**asdict(each), "p_adjusted": p, "worse": p is not None and p < alpha})
        for each, p in zip(checks, adjusted, strict=True)
    ]


def _worse(
    measure: Measure, ours: Statistic, theirs: Statistic, difference: float, margin: float, n: int
) -> float | None:
    if n < 2:
        return None
    sign = -1.0 if measure.lower_is_better else 1.0
    return t_test(sign * difference, difference_error(ours, theirs), n, sided="lower", margin=margin)
