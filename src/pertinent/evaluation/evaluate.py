"""Scores of several systems on held-out judgments -> metrics with intervals, per slice, as JSON documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.evaluation import classification
from pertinent.evaluation.calibration import MonotoneMap
from pertinent.evaluation.intervals import RESAMPLES, Interval, Method, intervals_of
from pertinent.evaluation.measures import stage_measures, statistic_of
from pertinent.evaluation.metrics import Judgments
from pertinent.evaluation.notes import MIN_QUERIES, counts_of, ece_notes, notes_of
from pertinent.evaluation.significance import PERMUTATIONS, PairedDifference, paired_difference
from pertinent.evaluation.slices import DEFAULT_COLUMNS, slice_columns_of, slice_rows, too_small
from pertinent.evaluation.statistics import value_of
from pertinent.evaluation.systems import Scored, read_system, with_map
from pertinent.files import write_json
from pertinent.progress import Progress, progress
from pertinent.types import Scale

Values = dict[str, float | None]
Intervals = dict[str, Interval | None]


@dataclass(frozen=True)
class Evaluation:
    """Three JSON documents, without a NaN.

    metrics: {"n_grades", "resamples", "seed", "interval_method", "system_order": [NAME], "metric_order": [metric],
        "systems": {NAME: {metric: number|null}}, "intervals": {NAME: {metric: [low, high]|null}}, "slices": {column:
        {value: {"n_pairs", "n_queries", "small": bool, "note", "systems", "intervals"}}}, "counts": {name: int}, "notes":
        [str]}.
    reliability: {NAME: {"own_probabilities": bool, "log_loss", "ece", "bins": [{"confidence", "accuracy", "n_pairs"}],
        "map": the monotone map fitted on dev, or null}} for systems with grades.
    confusion: {NAME: {"labels": ["L1", ..], "counts": n rows, the judged grade, of n pairs by predicted grade}}.
    """

    metrics: dict[str, Any]
    reliability: dict[str, Any]
    confusion: dict[str, Any]


@dataclass(frozen=True)
class HeldOut:
    """The test rows of a scores frame, and every system on them.

    test: sorted by pair. maps: of the systems whose grades come from dev. notes: what was left out and why.
    """

    test: pl.DataFrame
    dev: pl.DataFrame
    judgments: Judgments
    systems: tuple[Scored, ...]
    maps: Mapping[str, MonotoneMap]
    notes: tuple[str, ...]


def evaluate(
    scores: pl.DataFrame,
    scale: Scale,
    *,
    systems: Sequence[str],
    slice_columns: Sequence[str] = DEFAULT_COLUMNS,
    method: Method = "bootstrap",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Measure every system on the test rows of a scores frame, all on the same pairs.

    scores: one row a judged pair: query_id, query, item_id, grade (stored), split ("dev" or "test", others are
        ignored), the slice columns, and for each system NAME a column NAME (float score, higher is better), and
        where it gives them NAME.p_1 .. NAME.p_n and NAME.grade (see ``systems.read_system``).
    Grades of a system without probabilities come from a monotone map fitted on the dev rows; without dev rows its
    figures of grades (accuracy, qwk, ece and so on) are null. method: of the 95% intervals; resamples: of queries, for the bootstrap;
    0 leaves intervals null. An undefined figure is null, with a line in notes where its cause is not plain. Raises
    DataError if a column is absent, a pair is repeated, a grade is off the scale, a score is not finite or there is no
    test row.
    """
    held_out = read_held_out(scores, scale, systems, slice_columns)
    notes, judgments = list(held_out.notes), held_out.judgments
    parts: dict[str, dict[str, NDArray[np.int64]]] = {}
    for column in slice_columns:
        parts[column], more = slice_rows(held_out.test, column)
        notes += more
    measuring = _Measuring(method, resamples, seed)
    n_parts = 1 + sum(map(len, parts.values()))
    with progress("evaluate", len(systems) * n_parts, "systems and slices") as bar:
        overall = measuring.measure(held_out.systems, judgments.n_queries > 1, bar)
        slices = {
            column: {
                value: _slice(measuring, [each.take(rows) for each in held_out.systems], bar)
                for value, rows in values.items()
            }
            for column, values in parts.items()
        }
    dev = held_out.dev
    document = {
        "n_grades": scale.n_grades,
        "resamples": resamples,
        "seed": seed,
        "interval_method": method,
        "system_order": list(systems),
        "metric_order": [*stage_measures(scale.n_grades), "n_pairs", "n_queries"],
        **overall,
        "slices": slices,
        "counts": counts_of(judgments, scale.shown, dev.height, dev["query_id"].n_unique()),
        "notes": notes + notes_of(judgments, held_out.systems) + ece_notes(overall),
    }
    return Evaluation(document, _reliability(held_out), _confusion(held_out, scale))


def compare(
    scores: pl.DataFrame,
    scale: Scale,
    system: str,
    baseline: str,
    metric: str,
    *,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> PairedDifference:
    """How far ``system`` is above ``baseline`` in one metric of ``evaluate`` on the test rows; see paired_difference.

    Raises DataError as ``evaluate`` does, and if the metric is unknown or one of the systems does not have it.
    """
    held_out = read_held_out(scores, scale, [system, baseline])
    measure = stage_measures(scale.n_grades).get(metric)
    if measure is None or (measure.needs_grades and any(each.system.probs is None for each in held_out.systems)):
        known = ", ".join(stage_measures(scale.n_grades))
        raise DataError(f"compare {system} with {baseline}: expected a metric both have, of {known}; found {metric}")
    found = [statistic_of(measure, each) for each in held_out.systems]
    return paired_difference(found[0], found[1], resamples=resamples, permutations=permutations, seed=seed)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write ``metrics.json``, ``reliability.json`` and ``confusion.json`` into ``folder``, made if absent."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", evaluation.metrics)
    write_json(folder / "reliability.json", evaluation.reliability)
    write_json(folder / "confusion.json", evaluation.confusion)


def read_held_out(
    scores: pl.DataFrame, scale: Scale, systems: Sequence[str], slice_columns: Sequence[str] = ()
) -> HeldOut:
    """Check a scores frame and read its systems; see ``evaluate`` for the frame and the errors."""
    dev, test = _checked(scores, scale, systems, slice_columns)
    queries = test["query_id"].rle_id().to_numpy().astype(np.int64)  # rows are sorted by query_id
    judgments = Judgments(queries, test["grade"].to_numpy().astype(np.int64), int(queries[-1]) + 1, scale.n_grades)
    found, maps, notes = [], {}, []
    for name in systems:
        system = read_system(test, name, scale)
        if not system.own_probs and dev.height == 0:
            notes.append(
                f"{name}: no dev rows to fit grades on, so accuracy, qwk, ece and all other figures of grades are null"
            )
        elif not system.own_probs:
            dev_scores = read_system(dev, name, scale).scores
            maps[name] = MonotoneMap.fit(dev_scores, dev["grade"].to_numpy(), scale.n_grades)
            system = with_map(system, maps[name])
            if (dev_scores == dev_scores[0]).all():
                notes.append(f"{name}: all dev scores are equal, so it predicts the commonest dev grade for every pair")
        found.append(Scored(judgments, system))
    return HeldOut(test, dev, judgments, tuple(found), maps, tuple(notes))


def _checked(
    scores: pl.DataFrame, scale: Scale, systems: Sequence[str], slice_columns: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The dev and the test rows, sorted by pair so that no result depends on the order of rows."""
    absent = [c for c in ("query_id", "query", "item_id", "grade", "split") if c not in scores.columns]
    if absent:
        raise DataError(f"scores: expected the columns {', '.join(absent)}; found {', '.join(scores.columns)}")
    if not systems or len(set(systems)) < len(systems):
        raise DataError(f"systems: expected distinct names, at least one, found {list(systems)}")
    held_out = slice_columns_of(scores, slice_columns).filter(pl.col("split").is_in(["dev", "test"]))
    if held_out.select(pl.any_horizontal(pl.col("query_id", "item_id", "grade").is_null().any())).item():
        raise DataError("scores: query_id, item_id and grade must not be null")
    if not held_out["grade"].dtype.is_integer() or not held_out["grade"].is_between(0, scale.n_grades - 1).all():
        raise DataError(f"scores: grade must be a whole number 0-{scale.n_grades - 1}, found others")
    held_out = held_out.sort("query_id", "item_id")
    pair = pl.struct("query_id", "item_id")
    repeated = held_out.filter(pair == pair.shift()).head(1)
    if repeated.height:
        raise DataError(f"scores: query {repeated['query_id'][0]}, item {repeated['item_id'][0]}: the pair is repeated")
    dev, test = held_out.filter(pl.col("split") == "dev"), held_out.filter(pl.col("split") == "test")
    if test.height == 0:
        raise DataError("scores: expected rows of the split test, found none")
    return dev, test


@dataclass(frozen=True)
class _Measuring:
    """How intervals are made."""

    method: Method
    resamples: int
    seed: int

    def measure(self, systems: Sequence[Scored], with_intervals: bool, bar: Progress) -> dict[str, dict[str, Any]]:
        """The keys "systems" and "intervals"; one system at a time, each on the same resamples (the same seed)."""
        values: dict[str, Values] = {}
        intervals: dict[str, Intervals] = {}
        judgments = systems[0].judgments
        measures = stage_measures(judgments.n_grades)
        for each in systems:
            name, has_grades = each.system.name, each.system.probs is not None
            statistics = {
                key: statistic_of(measure, each)
                for key, measure in measures.items()
                if has_grades or not measure.needs_grades
            }
            known = {key: value_of(statistic) for key, statistic in statistics.items()}
            found: Mapping[str, Interval | None] = {}
            if with_intervals and (self.resamples or self.method == "analytic"):
                found = intervals_of(statistics, method=self.method, resamples=self.resamples, seed=self.seed)
            counts = {"n_pairs": judgments.queries.size, "n_queries": judgments.n_queries}
            values[name] = {key: known.get(key) for key in measures} | counts
            intervals[name] = {key: None if known.get(key) is None else found.get(key) for key in measures}
            bar.advance()
        return {"systems": values, "intervals": intervals}


def _slice(measuring: _Measuring, systems: Sequence[Scored], bar: Progress) -> dict[str, Any]:
    part = systems[0].judgments
    small = part.n_queries < MIN_QUERIES
    found = measuring.measure(systems, not small, bar)
    sizes = {"n_pairs": part.queries.size, "n_queries": part.n_queries}
    return {**sizes, "small": small, "note": too_small(part.n_queries, MIN_QUERIES), **found}


def _reliability(held_out: HeldOut) -> dict[str, Any]:
    found: dict[str, Any] = {}
    grades = held_out.judgments.grades
    for system in (each.system for each in held_out.systems):
        if system.probs is None:
            continue
        correct = system.predicted == grades
        bins = classification.reliability_bins(correct, system.confidence)
        found[system.name] = {
            "own_probabilities": system.own_probs,
            "log_loss": classification.log_loss(grades, system.probs),
            "ece": classification.expected_calibration_error(correct, system.confidence),
            "bins": [dataclasses.asdict(each) for each in bins],
            "map": held_out.maps[system.name].to_dict() if system.name in held_out.maps else None,
        }
    return found


def _confusion(held_out: HeldOut, scale: Scale) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for system in (each.system for each in held_out.systems):
        if system.predicted is not None:
            counts = classification.confusion_matrix(held_out.judgments.grades, system.predicted, scale.n_grades)
            found[system.name] = {"labels": list(scale.shown), "counts": counts.tolist()}
    return found
