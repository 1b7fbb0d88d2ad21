"""The label report's numbers: how grades and certainty spread over groups, and how far labels agree with people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pertinent.evaluation import evaluate
from pertinent.report import numbers
from pertinent.report.definitions import Metric, metrics_of, natural_key
from pertinent.report.label_files import Group, LabelFiles
from pertinent.report.numbers import Cell
from pertinent.report.probabilities import Confusion
from pertinent.report.run_files import mapping
from pertinent.report.tables import Results

MAX_GROUPS = 24  # of a column; those of fewer pairs are summed up in one
MIN_PAIRS = 30  # judged pairs of a language that has a row of its own
SYSTEM = "teacher"  # what labels are drawn as, so that they have the teacher's colour


@dataclass(frozen=True)
class AgreementRow:
    """Labels against human grades on some of the pairs that both have."""

    value: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Agreement:
    """A row for all pairs, then one a language. confusion: human grade by the label's most likely one."""

    metrics: tuple[Metric, ...]
    rows: tuple[AgreementRow, ...]
    confusion: Confusion
    n_pairs: int
    notes: tuple[str, ...]


def shown_groups(groups: Sequence[Group]) -> list[Group]:
    """At most MAX_GROUPS, in natural order of their names where none is left out, else the largest and "others"."""
    if len(groups) <= MAX_GROUPS:
        return sorted(groups, key=lambda group: natural_key(group.value))
    rest = groups[MAX_GROUPS - 1 :]
    weights = np.array([group.n_pairs for group in rest], dtype=np.float64)
    shares = weights @ np.stack([group.shares for group in rest]) / weights.sum()
    entropy = float(weights @ np.array([group.entropy for group in rest]) / weights.sum())
    others = Group(f"{len(rest):,} others", int(weights.sum()), shares, entropy)
    return [*groups[: MAX_GROUPS - 1], others]


def human_group(labels: LabelFiles) -> Group | None:
    """The human grades of the pairs that have both, or None without one."""
    if not labels.judged.height:
        return None
    counts = np.bincount(labels.judged["grade"].to_numpy(), minlength=labels.scale.n_grades)
    return Group("people, same pairs", labels.judged.height, counts / counts.sum(), 0.0)


def labelled_group(labels: LabelFiles) -> Group | None:
    """The labels of the pairs that people judged too, or None without one."""
    if not labels.judged.height:
        return None
    means = labels.judged.select(pl.col(*labels.scale.probability_columns, "entropy").mean()).to_numpy()[0]
    return Group("labels, judged pairs", labels.judged.height, means[:-1], float(means[-1]))


def agreement(labels: LabelFiles) -> Agreement | None:
    """Accuracy, kappa, AUROC at every grade and calibration against people; None without a pair that both have."""
    names = labels.scale.probability_columns
    if not labels.judged.height:
        return None
    probs = labels.judged.select(names).to_numpy()
    frame = labels.judged.with_columns(
        pl.Series(SYSTEM, probs @ np.arange(labels.scale.n_grades)),
        *[pl.Series(f"{SYSTEM}.{name}", probs[:, k]) for k, name in enumerate(names)],
        split=pl.lit("test"),
        language=pl.col("language").fill_null("und"),
    ).drop(*names, "entropy")
    found = evaluate(frame, labels.scale, systems=[SYSTEM], slice_columns=["language"], method="analytic")
    wanted = {"accuracy", "qwk", "within_1", "ece", "n_pairs", "n_queries"}
    metrics = tuple(m for m in metrics_of(labels.scale.n_grades) if m.key in wanted or m.key.startswith("auroc"))
    slices = mapping(mapping(found.metrics["slices"]).get("language"))
    shown = {value: part for value, part in slices.items() if (numbers.measured(part.get("n_pairs")) or 0) >= MIN_PAIRS}
    rows = [("all", found.metrics), *(sorted(shown.items()) if len(slices) > 1 else [])]
    counts = np.array(found.confusion[SYSTEM]["counts"], dtype=np.int64)
    cut = len(slices) - len(shown)
    notes = (f"{cut} languages with fewer than {MIN_PAIRS} such pairs have no row.",) if cut and len(slices) > 1 else ()
    return Agreement(
        metrics,
        tuple(AgreementRow(value, _cells(Results.of(part), metrics)) for value, part in rows),
        Confusion(SYSTEM, counts),
        labels.judged.height,
        notes,
    )


def fates(labels: LabelFiles) -> list[tuple[str, str, float]]:
    """(what became of the pairs, how many, their share of all that were to be labelled).

    Labels that are filtered out are among the labels: they keep their rows, with weight 0.
    """
    counts = mapping(labels.manifest.get("counts"))
    n_failed = int(labels.failed["pairs"].sum())
    total = labels.n_pairs + n_failed
    rows = [
        ("labelled in this stage", labels.n_pairs - labels.n_cached),
        ("taken from earlier labels", labels.n_cached),
        ("set aside with a reason", n_failed),
    ]
    if "filtered" in counts:
        rows.insert(2, ("of these labels, filtered out (weight 0)", int(numbers.measured(counts["filtered"]) or 0)))
    return [(name, numbers.count(n), n / total) for name, n in rows]


def headline(labels: LabelFiles, found: Agreement | None) -> str:
    """One or two sentences: how many labels, how sure, and how far people agree."""
    whole = labels.groups["all"][0]
    even = float(np.log(labels.scale.n_grades))
    said = f"{numbers.count(whole.n_pairs)} soft labels, with {numbers.percent(whole.entropy / even)} of the entropy of a guess."
    if found is None:
        return f"{said} No pair has a human grade too."
    accuracy, kappa = (
        next(cell.text for metric, cell in zip(found.metrics, found.rows[0].cells, strict=True) if metric.key == key)
        for key in ("accuracy", "qwk")
    )
    parts = [f"accuracy {accuracy}" if accuracy else "", f"kappa {kappa}" if kappa else ""]
    told = ", ".join(part for part in parts if part)
    return f"{said} Against people, on {numbers.count(found.n_pairs)} pairs: {told}." if told else said


def _cells(results: Results, metrics: Sequence[Metric]) -> tuple[Cell, ...]:
    return tuple(results.cell(SYSTEM, metric) for metric in metrics)
