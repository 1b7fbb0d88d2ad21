"""The report's tables of numbers, from metrics.json alone: every missing number is a gap that says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from pertinent.evaluation.notes import MIN_QUERIES
from pertinent.report import numbers
from pertinent.report.definitions import (
    FLOORS,
    Metric,
    auroc,
    in_order,
    main_threshold,
    metrics_of,
    more_metrics_of,
    natural_key,
    system_name,
)
from pertinent.report.numbers import Cell, Interval
from pertinent.report.run_files import mapping

# A share of a smaller gain than this would be a share of noise.
SMALLEST_GAIN = 0.005
# What the student should beat.
BASELINES = ("bm25", "embedding")


@dataclass(frozen=True)
class Results:
    """The ``systems``, ``intervals`` and ``differences`` of metrics.json, or of one of its slices."""

    systems: Mapping[str, Any]
    intervals: Mapping[str, Any]
    differences: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Results:
        """The results in ``document``; empty where it has none."""
        parts = (mapping(document.get(key)) for key in ("systems", "intervals", "differences"))
        return cls(*parts)

    def value(self, system: str, metric: str) -> float | None:
        """The number, or None where it is missing or not finite."""
        return numbers.measured(mapping(self.systems.get(system)).get(metric))

    def interval(self, system: str, metric: str) -> Interval | None:
        """The 95% interval, or None."""
        return numbers.measured_interval(mapping(self.intervals.get(system)).get(metric))

    def paired_interval(self, system: str, baseline: str, metric: str) -> Interval | None:
        """The 95% interval of ``system`` less ``baseline`` on the same resamples of queries, or None."""
        pair = mapping(mapping(self.differences.get(system)).get(baseline))
        return numbers.measured_interval(mapping(pair.get(metric)).get("interval"))

    def cell(self, system: str, metric: Metric, best: bool = False) -> Cell:
        """The number with its interval, or a gap with its reason."""
        value = self.value(system, metric.key)
        if value is None:
            return Cell(gap=self.reason(system, metric))
        if metric.is_count:
            return Cell(numbers.count(value))
        return Cell(numbers.decimals(value), numbers.interval_text(self.interval(system, metric.key)), best)

    def reason(self, system: str, metric: Metric) -> str:
        """Why there is no number."""
        if system not in self.systems:
            return f"{system_name(system)} was not scored here"
        if metric.key not in mapping(self.systems[system]):
            return f"{metric.name} was not measured for {system_name(system)}"
        return f"{metric.name} is not defined for {system_name(system)} on these pairs"


@dataclass(frozen=True)
class SystemRow:
    """One system's line of the headline table."""

    system: str
    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class SystemTable:
    """All systems by all metrics."""

    metrics: tuple[Metric, ...]
    rows: tuple[SystemRow, ...]


def system_table(results: Results, n_grades: int) -> SystemTable:
    """The headline table: the six systems of every run, then any others; the metrics of the scale, then any others."""
    known = metrics_of(n_grades)
    elsewhere = {m.key for m in (*known, *more_metrics_of(n_grades))}
    extra = {key for values in results.systems.values() for key in mapping(values)} - elsewhere
    metrics = (
        *known,
        *(Metric(key, key, "A metric of this run's own.", is_count=key.startswith("n_")) for key in sorted(extra)),
    )
    if size_of(results):  # told once, in the caption
        metrics = tuple(metric for metric in metrics if metric.key not in ("n_queries", "n_pairs"))
    return _table(results, metrics, {metric.key for metric in known})


def more_table(results: Results, n_grades: int) -> SystemTable:
    """The metrics that the headline table has no room for, as far as the run has them; without rows where it has none."""
    there = {key for values in results.systems.values() for key in mapping(values)}
    metrics = tuple(metric for metric in more_metrics_of(n_grades) if metric.key in there)
    return _table(results, metrics, there) if metrics else SystemTable((), ())


def _table(results: Results, metrics: tuple[Metric, ...], known: Set[str]) -> SystemTable:
    best = {metric.key: _best_text(results, metric) for metric in metrics if metric.key in known}
    rows = []
    for system in in_order(set(results.systems)):
        cells = []
        for metric in metrics:
            cell = results.cell(system, metric)
            is_best = bool(cell.text) and system not in FLOORS and cell.text == best.get(metric.key)
            cells.append(Cell(cell.text, cell.interval, is_best, cell.gap))
        rows.append(SystemRow(system, system_name(system), tuple(cells)))
    return SystemTable(metrics, tuple(rows))


def size_of(results: Results) -> str:
    """``200 held-out queries (1,635 pairs)`` where every system was measured on as many; nothing where they differ."""
    sizes = {(results.value(s, "n_queries"), results.value(s, "n_pairs")) for s in results.systems}
    n_queries, n_pairs = sizes.pop() if len(sizes) == 1 else (None, None)
    if n_queries is None or n_pairs is None:
        return ""
    return f"{numbers.count(n_queries)} held-out queries ({numbers.count(n_pairs)} pairs)"


def _best_text(results: Results, metric: Metric) -> str:
    # Compared as printed, so that two systems that look equal are both marked.
    values = [v for s in results.systems if s not in FLOORS and (v := results.value(s, metric.key)) is not None]
    if metric.is_count or len(values) < 2:
        return ""
    return numbers.decimals(min(values) if metric.lower_is_better else max(values))


@dataclass(frozen=True)
class Gain:
    """How much of the teacher's gain over BM25 the student keeps, by one metric.

    kept: a share, 1 = all of it; None where it cannot be told, and then ``note`` says why. A note beside a
    share is a warning to read it with care.
    """

    metric: Metric
    bm25: Cell
    student: Cell
    teacher: Cell
    teacher_gain: Cell
    student_gain: Cell
    kept: float | None
    note: str

    @property
    def kept_text(self) -> str:
        """The share in whole percent, or nothing."""
        return "" if self.kept is None else numbers.percent(self.kept)


def gains(results: Results, n_grades: int) -> tuple[Gain, ...]:
    """One Gain per AUROC threshold, then for pair accuracy and nDCG."""
    ranking = {f"auroc_{k}+" for k in range(2, n_grades + 1)} | {"pair_accuracy", "ndcg@10", "ndcg@20"}
    return tuple(gain(results, metric) for metric in metrics_of(n_grades) if metric.key in ranking)


def gain(results: Results, metric: Metric) -> Gain:
    """The share of the teacher's gain over BM25 that the student keeps by ``metric``."""
    bm25, teacher, student = (results.value(system, metric.key) for system in ("bm25", "teacher", "student"))
    kept, note = _kept(bm25, teacher, student)
    if kept is not None and _overlap(results.interval("bm25", metric.key), results.interval("teacher", metric.key)):
        note = "the intervals of the teacher and BM25 overlap, so this share is uncertain"
    bm25_cell, student_cell, teacher_cell = (results.cell(s, metric) for s in ("bm25", "student", "teacher"))
    differences = (_difference(teacher, bm25), _difference(student, bm25))
    return Gain(metric, bm25_cell, student_cell, teacher_cell, *differences, kept, note)


def _kept(bm25: float | None, teacher: float | None, student: float | None) -> tuple[float | None, str]:
    missing = [n for n, v in (("BM25", bm25), ("the teacher", teacher), ("the student", student)) if v is None]
    if bm25 is None or teacher is None or student is None:
        return None, f"no number for {' and '.join(missing)}"
    if teacher <= bm25:
        return None, "the teacher does not gain on BM25 here, so there is no gain to keep"
    if teacher - bm25 < SMALLEST_GAIN:
        return None, f"the teacher's gain is below {numbers.decimals(SMALLEST_GAIN)}: a share of it would be noise"
    return (student - bm25) / (teacher - bm25), ""


def _difference(value: float | None, base: float | None) -> Cell:
    if value is None or base is None:
        return Cell(gap="needs both numbers")
    return Cell(numbers.signed(value - base))


def _overlap(a: Interval | None, b: Interval | None) -> bool:
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]


@dataclass(frozen=True)
class Standing:
    """The student less a system that it should beat, on the same queries, and what may be said of it.

    words: ``above`` or ``below`` where the interval of the difference leaves out 0; where it does not, or there is
    none, ``higher``, ``lower`` or ``equal`` and why no more is said; ``not known`` without both numbers.
    """

    baseline: str
    cell: Cell
    words: str

    @property
    def sentence(self) -> str:
        """``above BM25`` or ``higher than BM25, interval includes 0``, for a reader without the table."""
        how, comma, why = self.words.partition(",")
        link = {"higher": " than", "lower": " than", "equal": " to", "not known": " against"}.get(how, "")
        return f"{how}{link} {system_name(self.baseline)}{comma}{why}"


def standing(results: Results, metric: Metric, baseline: str) -> Standing:
    """Where the student stands against ``baseline`` by ``metric``."""
    value, base = results.value("student", metric.key), results.value(baseline, metric.key)
    if value is None or base is None:
        return Standing(baseline, _difference(value, base), "not known")
    interval = results.paired_interval("student", baseline, metric.key)
    cell = Cell(numbers.signed(value - base), numbers.interval_text(interval))
    how = "higher" if value > base else "lower" if value < base else "equal"
    if interval is None:
        return Standing(baseline, cell, f"{how}, no interval")
    if interval[0] > 0 or interval[1] < 0:
        return Standing(baseline, cell, "above" if interval[0] > 0 else "below")
    return Standing(baseline, cell, f"{how}, interval includes 0")


@dataclass(frozen=True)
class SliceRow:
    """One value of a slice column: its size, a cell a system, where the student stands, and a note where it is too small."""

    value: str
    n_queries: Cell
    n_pairs: Cell
    is_small: bool
    cells: tuple[Cell, ...]
    standings: tuple[Standing, ...]
    results: Results
    note: str = ""


@dataclass(frozen=True)
class SliceTable:
    """One metric, by the values of one column and by system."""

    column: str
    metric: Metric
    systems: tuple[str, ...]
    rows: tuple[SliceRow, ...]


def slice_tables(metrics: Mapping[str, Any], n_grades: int) -> dict[str, list[SliceTable]]:
    """For each slice column that has a value, a table by the headline's AUROC, one by pair accuracy and one by nDCG."""
    shown = (auroc(main_threshold(n_grades)).key, "pair_accuracy", "ndcg@20")
    chosen = [m for m in metrics_of(n_grades) if m.key in shown]
    columns = sorted(mapping(metrics.get("slices")).items(), key=lambda pair: (pair[0] != "language", pair[0]))
    systems = tuple(s for s in in_order(set(mapping(metrics.get("systems")))) if s not in FLOORS)
    return {
        column: [_slice_table(column, mapping(values), metric, systems) for metric in chosen]
        for column, values in columns
        if mapping(values)
    }


def _slice_table(column: str, values: Mapping[str, Any], metric: Metric, systems: tuple[str, ...]) -> SliceTable:
    rows = [_slice_row(value, mapping(document), metric, systems) for value, document in values.items()]
    if all(row.value[:1].isdecimal() for row in rows):
        rows.sort(key=lambda row: natural_key(row.value))
    else:
        rows.sort(key=lambda row: (-_size(values, row.value), natural_key(row.value)))
    return SliceTable(column, metric, systems, tuple(rows))


def _size(values: Mapping[str, Any], value: str) -> float:
    return numbers.measured(mapping(values[value]).get("n_pairs")) or 0.0


def _slice_row(value: str, document: Mapping[str, Any], metric: Metric, systems: Sequence[str]) -> SliceRow:
    results = Results.of(document)
    n_queries = numbers.measured(document.get("n_queries"))
    is_small = document.get("small") is True or n_queries is None or n_queries < MIN_QUERIES
    cells = tuple(results.cell(system, metric) for system in systems)
    sizes = (_count(document, "n_queries"), _count(document, "n_pairs"))
    standings = tuple(standing(results, metric, baseline) for baseline in BASELINES)
    note = str(document.get("note") or "")
    return SliceRow(value, *sizes, is_small, cells, standings, results, note)


def _count(document: Mapping[str, Any], key: str) -> Cell:
    value = numbers.measured(document.get(key))
    return Cell(gap="not counted") if value is None else Cell(numbers.count(value))


def headline(results: Results, n_grades: int) -> str:
    """The run in one sentence: the student, how much of the teacher's gain it keeps, on how many held-out queries."""
    if not results.systems:
        return "This run has no evaluation yet: there is no number to show."
    metric = auroc(main_threshold(n_grades))
    value = results.value("student", metric.key)
    if value is None:
        return f"This run has no {metric.name} for the student: {results.reason('student', metric)}."
    reach = f"The student reaches {metric.name} {numbers.decimals(value)}"
    if shown := numbers.interval_text(results.interval("student", metric.key)):
        reach += f" {shown}"
    n_queries = results.value("student", "n_queries")
    scope = "" if n_queries is None else f", on {numbers.count(n_queries)} held-out queries"
    return reach + _standing(gain(results, metric)) + scope + "."


def _standing(found: Gain) -> str:
    if found.kept is None:
        both = found.teacher.text and found.bm25.text
        return f", where the teacher reaches {found.teacher.text} and BM25 {found.bm25.text}" if both else ""
    if found.kept < 0:
        return f", which is below BM25 ({found.bm25.text})"
    if found.kept >= 1:
        return f", all of the teacher's gain over BM25 ({found.kept_text})"
    return f", {found.kept_text} of the teacher's gain over BM25"
