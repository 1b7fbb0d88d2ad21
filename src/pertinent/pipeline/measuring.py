"""`pertinent evaluate RUN QRELS MEASURE ...`: runs of any kind by measures of any name, compared, sliced and gated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.data.trec import write_qrels, write_trec_run
from pertinent.errors import DataError
from pertinent.evaluation.comparison import Check, Settings, check, differences, judged, with_adjusted
from pertinent.evaluation.intervals import intervals_of
from pertinent.evaluation.measures import Measure, default_measures, parse_measure, statistic_of
from pertinent.evaluation.notes import MIN_QUERIES
from pertinent.evaluation.significance import ALPHA, Correction
from pertinent.evaluation.slices import slice_columns_of, slice_rows, too_small
from pertinent.evaluation.statistics import value_of
from pertinent.evaluation.systems import Scored
from pertinent.pipeline.judged import (
    JudgedPairs,
    RunScores,
    is_run_folder,
    read_judged,
    read_run_scores,
    run_judgments,
    systems_of,
)
from pertinent.pipeline.on_judged import coded, keyed, scored_on
from pertinent.progress import Progress, progress


@dataclass(frozen=True)
class Request:
    """What to measure.

    run: TREC run, table or run folder. judgments: see ``read_judged``; None: those of the run folder. against: runs of any
    kind, or names of other systems of the run folder. slices: "column" or "column=value". fail_below: "measure" or
    "measure=margin". judged_only: whether unjudged items are left out where a measure does not say. grades: of the scale.
    """

    run: Path
    judgments: Path | None = None
    measures: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    system: str = "student"
    slices: tuple[str, ...] = ()
    fail_below: tuple[str, ...] = ()
    judged_only: bool = False
    grades: int | None = None
    correction: Correction = "holm"
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class _Part:
    """A slice: its rows of the judged pairs, and whether they are all pairs of their queries."""

    column: str
    value: str
    rows: NDArray[np.int64]
    whole_queries: bool


def measure_runs(request: Request) -> dict[str, Any]:
    """A JSON document of one run, and where there are others of how far it is above each, on the same judged pairs.

    {"judgments": {"source", "n_pairs", "n_queries", "n_grades"}, "measures": [name], "lower_is_better": [name], "systems":
    {NAME: {measure: number|null}}, "intervals", "n_queries": {NAME: {measure: queries that count}}, "differences": {NAME:
    {measure: the fields of PairedDifference and p_adjusted}}, of the run less NAME, "slices": {column: {value: {"n_pairs",
    "n_queries", "small", "note", "systems", "intervals", "differences"}}}, "gate": {"passed", "checks"}|null, "correction",
    "notes"}. p_adjusted is over all baselines and slices of one measure. Raises DataError in one line.
    """
    pairs = _judgments_of(request)
    pairs = replace(pairs, frame=_sorted(pairs.frame))
    judgments = coded(pairs)
    notes = list(pairs.notes)
    runs = _runs_of(request)
    scored = [scored_on(run, pairs, judgments, notes) for run in runs]
    gates = [_gate_of(text, request.judged_only) for text in request.fail_below]
    if gates and len(scored) < 2:
        raise DataError("gate: expected a baseline to be no worse than, found none")
    measures = _measures_of(request, gates, scored, pairs.n_grades)
    parts, more = _parts(pairs, request.slices)
    notes += more
    with progress("evaluate", (1 + len(parts)) * len(scored), "systems and slices") as bar:
        whole = _measured(scored, measures, request.settings, bar)
        slices: dict[str, dict[str, Any]] = {}
        taken = {}
        for part in parts:
            taken[part.column, part.value] = [each.take(part.rows, whole_queries=part.whole_queries) for each in scored]
            found = _slice(taken[part.column, part.value], part, measures, request.settings, bar)
            slices.setdefault(part.column, {})[part.value] = found
    with_adjusted(_documents(whole, slices), request.correction)
    gate = _gate(gates, scored, {f"{c}={v}": s for (c, v), s in taken.items()}, request.settings) if gates else None
    return {
        "judgments": {
            "source": pairs.shown,
            "n_pairs": pairs.frame.height,
            "n_queries": judgments.n_queries,
            "n_grades": pairs.n_grades,
        },
        "measures": list(measures),
        "lower_is_better": [name for name, measure in measures.items() if measure.lower_is_better],
        "resamples": request.settings.resamples,
        "seed": request.settings.seed,
        "interval_method": request.settings.method,
        "correction": request.correction,
        **whole,
        "slices": slices,
        "gate": gate,
        "notes": notes + _undefined_notes(whole),
    }


def write_trec(request: Request, folder: Path) -> dict[str, int]:
    """Write the judgments as FOLDER/qrels.txt and every run of the request as FOLDER/NAME.run; returns rows by file."""
    pairs = _judgments_of(request)
    write_qrels(pairs.frame.sort("query_id", "item_id"), folder / "qrels.txt")
    written = {"qrels.txt": pairs.frame.height}
    for run in _runs_of(request):
        frame, name = keyed(run, pairs), run.name.replace("/", "-")
        if not frame["score"].is_finite().fill_null(False).all():
            raise DataError(f"{run.shown}: scores must be finite, found others")
        write_trec_run(frame, folder / f"{name}.run", "-".join(name.split()))
        written[f"{name}.run"] = frame.height
    return written


def _judgments_of(request: Request) -> JudgedPairs:
    if request.judgments is not None:
        return read_judged(request.judgments, request.grades)
    if not is_run_folder(request.run):
        raise DataError(f"{request.run}: expected judgments after it, for it is not a run folder with an evaluation")
    return run_judgments(request.run, request.grades)


def _runs_of(request: Request) -> list[RunScores]:
    """The run and what it is compared with, under names of their own."""
    found = [read_run_scores(request.run, request.system)]
    for text in request.against:
        if is_run_folder(request.run) and not Path(text).exists() and text in systems_of(request.run):
            found.append(read_run_scores(request.run, text))
        else:
            found.append(read_run_scores(Path(text), request.system))
    names: list[str] = []
    for run in found:
        taken, name, number = set(names), run.name, 2
        while name in taken:
            name, number = f"{run.name} ({number})", number + 1
        names.append(name)
    return [replace(run, name=name) for run, name in zip(found, names, strict=True)]


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("query_id", "item_id")


def _measures_of(
    request: Request, gates: Sequence[tuple[Measure, float]], scored: Sequence[Scored], n_grades: int
) -> dict[str, Measure]:
    found = [_parsed(text, request.judged_only) for text in request.measures]
    if not found and not gates:
        graded = all(each.system.probs is not None for each in scored)
        found = [
            _with_judged_only(each, request.judged_only) for each in default_measures(n_grades, with_grades=graded)
        ]
    return {str(measure): measure for measure in [*found, *(measure for measure, _ in gates)]}


def _parsed(text: str, judged_only: bool) -> Measure:
    measure = parse_measure(text)
    return measure if "judged_only" in text else _with_judged_only(measure, judged_only)


def _with_judged_only(measure: Measure, judged_only: bool) -> Measure:
    options = dict(measure.options)
    if not judged_only or "judged_only" not in options:
        return measure
    return replace(measure, options=tuple({**options, "judged_only": True}.items()))


def _gate_of(text: str, judged_only: bool) -> tuple[Measure, float]:
    """``measure`` or ``measure=margin``; the equals signs of a measure's options stand within brackets."""
    name, equals, margin = text.rpartition("=")
    if not equals or ")" in margin:
        return _parsed(text, judged_only), 0.0
    try:
        allowed = float(margin)
    except ValueError:
        raise DataError(
            f"--fail-below {text}: expected MEASURE or MEASURE=MARGIN, a number, found {margin!r}"
        ) from None
    if not 0 <= allowed < np.inf:
        raise DataError(f"--fail-below {text}: the margin must be at least 0, got {margin}")
    return _parsed(name, judged_only), allowed


def _parts(pairs: JudgedPairs, wanted: Sequence[str]) -> tuple[list[_Part], list[str]]:
    found: list[_Part] = []
    notes: list[str] = []
    for text in wanted:
        column, equals, value = text.partition("=")
        frame = slice_columns_of(pairs.frame, [column]) if "query" in pairs.frame.columns else pairs.frame
        rows_of, more = slice_rows(frame, column, max_values=frame.height if equals else 50)
        if equals and value not in rows_of:
            known = ", ".join(list(rows_of)[:20])
            raise DataError(f"slice {text}: no judged pair is in it; {column} is one of {known}")
        notes += more
        whole = frame.group_by("query_id").agg(pl.col(column).n_unique().alias("n"))["n"].max() == 1
        found += [_Part(column, v, rows, whole) for v, rows in rows_of.items() if not equals or v == value]
    return found, notes


def _measured(
    scored: Sequence[Scored], measures: Mapping[str, Measure], settings: Settings, bar: Progress, *, small: bool = False
) -> dict[str, Any]:
    values: dict[str, dict[str, float | None]] = {}
    intervals: dict[str, dict[str, Any]] = {}
    counted: dict[str, dict[str, int]] = {}
    with_intervals = (
        not small and scored[0].judgments.n_queries > 1 and (settings.resamples or settings.method == "analytic")
    )
    for each in scored:
        name = each.system.name
        statistics = {
            key: statistic_of(measure, each, undefined_as_zero=settings.undefined_as_zero)
            for key, measure in measures.items()
        }
        values[name] = {key: value_of(statistic) for key, statistic in statistics.items()}
        counted[name] = {key: int(statistic.counted.sum()) for key, statistic in statistics.items()}
        found: Mapping[str, Any] = {}
        if with_intervals:
            found = intervals_of(statistics, method=settings.method, resamples=settings.resamples, seed=settings.seed)
        intervals[name] = {key: None if values[name][key] is None else found.get(key) for key in measures}
        bar.advance()
    without = replace(settings, method="bootstrap", resamples=0, permutations=0) if small else settings
    gaps = differences(scored[0], scored[1:], measures, without)
    return {"systems": values, "intervals": intervals, "n_queries": counted, "differences": gaps}


def _slice(
    scored: Sequence[Scored], part: _Part, measures: Mapping[str, Measure], settings: Settings, bar: Progress
) -> dict[str, Any]:
    n_queries = scored[0].judgments.n_queries
    small = n_queries < MIN_QUERIES
    found = _measured(scored, measures, settings, bar, small=small)
    counted = found.pop("n_queries")
    note = too_small(n_queries, MIN_QUERIES)
    return {
        "n_pairs": part.rows.size,
        "n_queries": n_queries,
        "small": small,
        "note": note,
        "counted": counted,
        **found,
    }


def _documents(whole: Mapping[str, Any], slices: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    parts = [whole, *(part for values in slices.values() for part in values.values())]
    return [by_measure for part in parts for by_measure in part["differences"].values()]


def _gate(
    gates: Sequence[tuple[Measure, float]],
    scored: Sequence[Scored],
    parts: Mapping[str, Sequence[Scored]],
    settings: Settings,
) -> dict[str, Any]:
    checks: list[Check] = []
    for measure, margin in gates:
        for place, baseline in enumerate(scored[1:], start=1):
            whole = check(measure, "overall", margin, scored[0], baseline, settings)
            if whole.p_value is None:
                why = whole.gap or "fewer than two queries bear on it"
                raise DataError(f"gate: {measure} against {baseline.system.name} cannot be judged: {why}")
            checks.append(whole)
            for name, systems in parts.items():
                found = check(measure, name, margin, systems[0], systems[place], settings)
                if found.n_queries < MIN_QUERIES:
                    why = found.gap or too_small(found.n_queries, MIN_QUERIES)
                    found = replace(found, p_value=None, gap=why)
                checks.append(found)
    told = judged(checks, ALPHA)
    return {"passed": not any(each.worse for each in told), "alpha": ALPHA, "checks": [asdict(each) for each in told]}


def _undefined_notes(whole: Mapping[str, Any]) -> list[str]:
    found = []
    for name, values in whole["systems"].items():
        undefined = [measure for measure, value in values.items() if value is None]
        if undefined:
            found.append(f"{name}: {', '.join(undefined)} undefined on these pairs")
    n = max((count for counts in whole["n_queries"].values() for count in counts.values()), default=0)
    if 0 < n < MIN_QUERIES:
        found.append(
            f"intervals and tests: rough, there {'is' if n == 1 else 'are'} only {n} quer{'y' if n == 1 else 'ies'}"
        )
    return found
