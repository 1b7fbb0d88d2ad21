"""Puts the report together: the files of a run folder -> one self-contained HTML page. Nothing is loaded from afar."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from pertinent.evaluation.notes import MIN_QUERIES
from pertinent.report import evidence, faithfulness, making, numbers, plots, probabilities, tables
from pertinent.report.checks import check_scores, doubts
from pertinent.report.definitions import (
    FLOORS,
    Metric,
    auroc,
    in_order,
    metrics_of,
    more_metrics_of,
    slice_name,
    system_definitions,
    system_name,
)
from pertinent.report.html import render_page, write_page
from pertinent.report.run_files import LINKED, RunFiles, mapping, read_run
from pertinent.report.scaling import label_scaling
from pertinent.report.tables import Results, SliceTable
from pertinent.report.worst import CUTOFF, worst_queries

GENERATED_BANNER = "Generated stand-in data: no quality claim rests on it"


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run as one HTML file, whole or not at all, and return its path.

    run_folder: holds any of data, text, teacher, labels, student, evaluation; what is missing is a marked gap.
    out: the file to write; ``report.html`` in the run folder where it is not given.
    The bytes depend on the run folder's files and name, and on where ``out`` lies from it, alone.
    Raises DataError where the run folder has no stage, a file in it is damaged, or ``out`` cannot be written.
    """
    target = run_folder / "report.html" if out is None else out
    run = read_run(run_folder)
    check_scores(run, run_folder / "evaluation" / "scores.parquet")
    write_page(render(run, target), target)
    return target


def render(run: RunFiles, target: Path) -> str:
    """The page as text; ``target`` is where it will lie, for its links to the run's files."""
    return render_page("report.html.j2", _context(run, target))


def _context(run: RunFiles, target: Path) -> dict[str, Any]:
    results = Results.of(run.metrics)
    n_grades = run.n_grades
    slices = tables.slice_tables(run.metrics, n_grades)
    return {
        "run": run,
        "facts": _facts(run),
        "banner": GENERATED_BANNER if run.dataset.get("generated") is True else "",
        "note": _beyond_banner(str(run.dataset.get("note") or "")),
        "headline": tables.headline(results, n_grades),
        "has_metrics": bool(results.systems),
        "table": tables.system_table(results, n_grades),
        "more": tables.more_table(results, n_grades),
        "size": tables.size_of(results),
        "gains": tables.gains(results, n_grades),
        "differences": evidence.difference_rows(run.metrics, n_grades),
        "correction": str(run.metrics.get("correction") or "none"),
        "agreement": evidence.agreement_of(run.metrics),
        "fidelity": faithfulness.fidelity_tables(run.metrics),
        "fidelity_headings": faithfulness.HEADINGS,
        "features": faithfulness.important_features(run.importance),
        "notes": [*doubts(run), *_texts(run.metrics.get("notes"))],
        "counts": numbers.flat(mapping(run.metrics.get("counts"))),
        "slices": slices,
        "baselines": tables.BASELINES,
        "small_slice_queries": MIN_QUERIES,
        "confusions": probabilities.confusions(run),
        "guidelines": _texts(mapping(run.dataset.get("scale")).get("guidelines")),
        "worst": worst_queries(run),
        "cutoff": CUTOFF,
        "stages": making.stage_rows(run),
        "versions": making.versions(run),
        "metrics": (*metrics_of(n_grades), *more_metrics_of(n_grades)),
        "system_definitions": system_definitions(_bm25_fields(run)),
        "files": links(run.folder, LINKED, target),
        "system_name": system_name,
        "slice_name": slice_name,
        **_figures(run, results, slices),
    }


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    """The few facts under the headline, as far as they are known."""
    seconds = making.total_seconds(run)
    facts = {
        "Data": str(run.dataset.get("name") or ""),
        "Licence": str(run.dataset.get("licence") or ""),
        "Grades": f"L1 to L{run.n_grades}",
        "Languages": ", ".join(_texts(run.dataset.get("languages"))),
        "Time of all stages": numbers.duration(seconds) if seconds > 0 else "",
        "pertinent": making.versions(run),
    }
    return [(name, value) for name, value in facts.items() if value]


def _bm25_fields(run: RunFiles) -> str:
    counts = mapping(mapping(run.manifests.get("evaluation")).get("counts"))
    return str(counts.get("bm25_fields") or "")


def _beyond_banner(note: str) -> str:
    """The data set's note; empty where it only repeats the banner."""
    return "" if note.rstrip(".") == GENERATED_BANNER else note


def _figures(run: RunFiles, results: Results, slices: Mapping[str, Sequence[SliceTable]]) -> dict[str, Any]:
    """Every plot of the page, each with an id of its own."""
    idents = (f"plot-{number}" for number in count(1))
    systems = in_order(set(results.systems))
    thresholds = [auroc(threshold) for threshold in range(2, run.n_grades + 1)]
    ece = {s: results.value(s, "ece") for s in probabilities.SHOWN}
    spreads = {s: spread for s in probabilities.SHOWN if (spread := probabilities.score_spread(run, s))}
    scaling = label_scaling(run.label_scaling, run.n_grades)
    return {
        "scaling": scaling,
        "scaling_plots": [plots.scaling_panel(next(idents), scaling)] if scaling and scaling.drawable else [],
        "threshold_plots": _threshold_plots(idents, results, systems, thresholds),
        "slice_plots": {column: _slice_plots(idents, found) for column, found in slices.items()},
        "slice_legend": plots.legend([s for s in systems if s not in FLOORS]),
        "reliability_plots": [
            plots.reliability_panel(next(idents), r.system, r.stated, r.true, ece[r.system])
            for r in probabilities.reliabilities(run)
        ],
        "gain_plots": [
            plots.gain_panel(next(idents), b) for b in [faithfulness.gain_bins(run.metrics)] if b is not None
        ],
        "histogram_plots": [
            plots.histogram_panel(next(idents), system, *spread, run.n_grades) for system, spread in spreads.items()
        ],
        "curve_plots": [plots.curve_panel(next(idents), c.title, c.axis, c.series) for c in making.curves(run)],
    }


def _threshold_plots(
    idents: Any, results: Results, systems: Sequence[str], thresholds: Sequence[Metric]
) -> list[Markup]:
    axis = plots.domain([results], systems, thresholds)
    if axis is None:
        return []
    return [plots.threshold_panel(next(idents), results, systems, metric, axis) for metric in thresholds]


def _slice_plots(idents: Any, found: Sequence[SliceTable]) -> list[Markup]:
    drawn = []
    for table in found:
        axis = plots.domain([row.results for row in table.rows], table.systems, [table.metric])
        if axis is not None:
            drawn.append(plots.slice_panel(next(idents), table, axis))
    return drawn


def links(folder: Path, names: Sequence[str], target: Path) -> Mapping[str, str]:
    """The files of ``folder`` that exist, by name, as links from where the report lies."""
    base = os.path.relpath(folder.resolve(), target.resolve().parent)
    return {name: quote(Path(base, name).as_posix()) for name in names if (folder / name).is_file()}


def _texts(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else []
