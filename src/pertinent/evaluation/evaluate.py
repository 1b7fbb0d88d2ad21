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
from pertinent.evaluation.intervals import (
    RESAMPLES,
    PairedDifference,
    bootstrap,
    paired_difference,
    percentile_interval,
    value_of,
)
from pertinent.evaluation.metrics import Judgments
from pertinent.evaluation.slices import DEFAULT_COLUMNS, slice_columns_of, slice_rows
from pertinent.evaluation.systems import SystemScores, metric_names, read_system, statistics_of, with_map
from pertinent.files import write_json
from pertinent.progress import Progress, progress
from pertinent.types import Scale

MIN_QUERIES = 20  # a slice with fewer gets no interval: its percentiles would be too narrow to be honest
Values = dict[str, float | None]
Intervals = dict[str, tuple[float, float] | None]


@dataclass(frozen=True)
class Evaluation:
    """Three JSON documents, without a NaN.

    metrics: {"n_grades", "resamples", "seed", "system_order": [NAME], "metric_order": [metric], "systems": {NAME:
        {metric: number|null}}, "intervals": {NAME: {metric: [low, high]|null}}, "slices": {column: {value: {"n_pairs",
        "n_queries", "small": bool, "systems", "intervals"}}}, "counts": {name: int}, "notes": [str]}.
    reliability: {NAME: {"own_probabilities": bool, "log_loss", "ece", "bins": [{"confidence", "accuracy", "n_pairs"}],
        "map": the monotone map fitted on dev, or null}} for systems with grades.
    confusion: {NAME: {"labels": ["L1", ..], "counts": n rows, the judged grade, of n pairs by predicted grade}}.
    """

    metrics: dict[str, Any]
    reliability: dict[str, Any]
    confusion: dict[str, Any]


def evaluate(
    scores: pl.DataFrame,
    scale: Scale,
    *,
    systems: Sequence[str],
    slice_columns: Sequence[str] = DEFAULT_COLUMNS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Measure every system on the test rows of a scores frame, all on the same pairs.

    scores: one row a judged pair: query_id, query, item_id, grade (stored), split ("dev" or "test", others are
        ignored), the slice columns, and for each system NAME a column NAME (float score, higher is better), and
        where it gives them NAME.p_1 .. NAME.p_n and NAME.grade (see ``systems.read_system``).
    Grades of a system without probabilities come from a monotone map fitted on the dev rows; without dev rows its
    accuracy, qwk, within_1 and ece are null. resamples: of queries, for 95% intervals; 0 leaves intervals null.
    An undefined figure is null, with a line in notes where its cause is not plain. Raises DataError if a column is
    absent, a pair is repeated, a grade is off the scale, a score is not finite or there is no test row.
    """
    dev, test = _checked(scores, scale, systems, slice_columns)
    notes: list[str] = []
    judgments = _judgments(test, scale)
    measured, maps = _read_systems(dev, test, scale, systems, notes)
    rows_of = {}
    for column in slice_columns:
        rows_of[column], more = slice_rows(test, column)
        notes += more
    slices = {
        column: {value: (_part(judgments, rows), rows) for value, rows in values.items()}
        for column, values in rows_of.items()
    }
    n_large = sum(part.n_queries >= MIN_QUERIES for values in slices.values() for part, _ in values.values())
    with progress("evaluate", len(measured) * (1 + n_large), "systems and slices") as bar:
        overall = _measure(judgments, measured, resamples if judgments.n_queries > 1 else 0, seed, bar)
        document = {
            "n_grades": scale.n_grades,
            "resamples": resamples,
            "seed": seed,
            "system_order": list(systems),
            "metric_order": [*metric_names(scale.n_grades), "n_pairs", "n_queries"],
            **overall,
            "slices": {
                column: {
                    value: _slice(part, rows, measured, resamples, seed, bar) for value, (part, rows) in parts.items()
                }
                for column, parts in slices.items()
            },
            "counts": _counts(dev, judgments, scale),
        }
    document["notes"] = notes + _notes(judgments, measured) + _ece_notes(overall)
    return Evaluation(document, _reliability(judgments, measured, maps), _confusion(judgments, measured, scale))


def compare(
    scores: pl.DataFrame,
    scale: Scale,
    system: str,
    baseline: str,
    metric: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """How far ``system`` is above ``baseline`` in one metric of ``evaluate`` on the test rows; see paired_difference.

    Raises DataError as ``evaluate`` does, and if the metric is unknown or one of the systems does not have it.
    """
    dev, test = _checked(scores, scale, [system, baseline], ())
    judgments = _judgments(test, scale)
    measured, _ = _read_systems(dev, test, scale, [system, baseline], [])
    found = [statistics_of(judgments, each).get(metric) for each in measured]
    if found[0] is None or found[1] is None:
        known = ", ".join(metric_names(scale.n_grades))
        raise DataError(f"compare {system} with {baseline}: expected a metric both have, of {known}; found {metric}")
    return paired_difference(found[0], found[1], resamples=resamples, seed=seed)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write ``metrics.json``, ``reliability.json`` and ``confusion.json`` into ``folder``, made if absent."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", evaluation.metrics)
    write_json(folder / "reliability.json", evaluation.reliability)
    write_json(folder / "confusion.json", evaluation.confusion)


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


def _judgments(rows: pl.DataFrame, scale: Scale) -> Judgments:
    queries = rows["query_id"].rle_id().to_numpy().astype(np.int64)  # rows are sorted by query_id
    return Judgments(queries, rows["grade"].to_numpy().astype(np.int64), int(queries[-1]) + 1, scale.n_grades)


def _part(judgments: Judgments, rows: NDArray[np.int64]) -> Judgments:
    return Judgments.of(judgments.queries[rows], judgments.grades[rows], judgments.n_grades)


def _read_systems(
    dev: pl.DataFrame, test: pl.DataFrame, scale: Scale, names: Sequence[str], notes: list[str]
) -> tuple[list[SystemScores], dict[str, MonotoneMap]]:
    found, maps = [], {}
    for name in names:
        system = read_system(test, name, scale)
        if not system.own_probs and dev.height == 0:
            notes.append(f"{name}: no dev rows to fit grades on, so accuracy, qwk, within_1 and ece are null")
        elif not system.own_probs:
            dev_scores = read_system(dev, name, scale).scores
            maps[name] = MonotoneMap.fit(dev_scores, dev["grade"].to_numpy(), scale.n_grades)
            system = with_map(system, maps[name])
            if (dev_scores == dev_scores[0]).all():
                notes.append(f"{name}: all dev scores are equal, so it predicts the commonest dev grade for every pair")
        found.append(system)
    return found, maps


def _measure(
    judgments: Judgments, systems: Sequence[SystemScores], resamples: int, seed: int, bar: Progress | None
) -> dict[str, dict[str, Any]]:
    """The keys "systems" and "intervals"; one system at a time, each on the same resamples (the same seed)."""
    values: dict[str, Values] = {}
    intervals: dict[str, Intervals] = {}
    names = metric_names(judgments.n_grades)
    for system in systems:
        statistics = statistics_of(judgments, system)
        drawn = bootstrap(statistics, resamples=resamples, seed=seed)
        known = {name: value_of(statistic) for name, statistic in statistics.items()}
        counts = {"n_pairs": judgments.queries.size, "n_queries": judgments.n_queries}
        values[system.name] = {name: known.get(name) for name in names} | counts
        intervals[system.name] = {
            name: None if known.get(name) is None else percentile_interval(drawn[name]) for name in names
        }
        if bar:
            bar.advance()
    return {"systems": values, "intervals": intervals}


def _slice(
    part: Judgments,
    rows: NDArray[np.int64],
    systems: Sequence[SystemScores],
    resamples: int,
    seed: int,
    bar: Progress,
) -> dict[str, Any]:
    small = part.n_queries < MIN_QUERIES
    taken = [system.take(rows) for system in systems]
    found = _measure(part, taken, 0 if small else resamples, seed, None if small else bar)
    return {"n_pairs": part.queries.size, "n_queries": part.n_queries, "small": small, **found}


def _counts(dev: pl.DataFrame, judgments: Judgments, scale: Scale) -> dict[str, int]:
    per_query = judgments.grade_counts
    sizes = per_query.sum(axis=1)
    by_grade = {f"n_pairs_{shown}": int(n) for shown, n in zip(scale.shown, per_query.sum(axis=0), strict=True)}
    return {
        "n_dev_pairs": dev.height,
        "n_dev_queries": dev["query_id"].n_unique(),
        "n_pairs": judgments.queries.size,
        "n_queries": judgments.n_queries,
        **by_grade,
        "n_queries_without_gain": int((per_query[:, 0] == sizes).sum()),  # left out of ndcg
        "n_queries_of_8_judgments": int((sizes >= 8).sum()),  # those of precision@8
        "n_ordered_pairs": int(((sizes**2 - (per_query**2).sum(axis=1)) // 2).sum()),  # those of pair_accuracy
    }


def _notes(judgments: Judgments, systems: Sequence[SystemScores]) -> list[str]:
    grades_seen = np.flatnonzero(judgments.grade_counts.sum(axis=0))
    notes = [
        f"auroc_{k + 1}+: null, all test pairs are on one side of L{k + 1}"
        for k in range(1, judgments.n_grades)
        if grades_seen[-1] < k or grades_seen[0] >= k
    ]
    if judgments.n_queries < 2:
        notes.append("intervals: null, there is only one test query")
    elif judgments.n_queries < MIN_QUERIES:
        notes.append(f"intervals: rough, there are only {judgments.n_queries} test queries")
    if (judgments.grade_counts.sum(axis=1) < 8).all():
        notes.append("precision@8: null, no test query has 8 judgments")
    if grades_seen[-1] == 0:
        notes.append("ndcg: null, no test pair is above the lowest grade")
    if (judgments.grade_counts > 0).sum(axis=1).max() < 2:
        notes.append("pair_accuracy: null, no test query has items of different grades")
    constant = [system.name for system in systems if (system.scores == system.scores[0]).all()]
    return notes + [
        f"{name}: all test scores are equal, so its ranking figures are those of chance" for name in constant
    ]


def _ece_notes(measured: Mapping[str, dict[str, Any]]) -> list[str]:
    found = []
    for name, intervals in measured["intervals"].items():
        ece, interval = measured["systems"][name]["ece"], intervals["ece"]
        if interval and not interval[0] <= ece <= interval[1]:
            found.append(f"{name}: resampling adds noise to ece, so its interval lies above the value")
    return found


def _reliability(
    judgments: Judgments, systems: Sequence[SystemScores], maps: Mapping[str, MonotoneMap]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for system in systems:
        if system.probs is None:
            continue
        correct = system.predicted == judgments.grades
        bins = classification.reliability_bins(correct, system.confidence)
        found[system.name] = {
            "own_probabilities": system.own_probs,
            "log_loss": classification.log_loss(judgments.grades, system.probs),
            "ece": classification.expected_calibration_error(correct, system.confidence),
            "bins": [dataclasses.asdict(each) for each in bins],
            "map": maps[system.name].to_dict() if system.name in maps else None,
        }
    return found


def _confusion(judgments: Judgments, systems: Sequence[SystemScores], scale: Scale) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for system in systems:
        if system.predicted is not None:
            counts = classification.confusion_matrix(judgments.grades, system.predicted, scale.n_grades)
            found[system.name] = {"labels": list(scale.shown), "counts": counts.tolist()}
    return found
