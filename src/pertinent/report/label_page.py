"""The label report: a folder of labels -> one self-contained HTML page."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from pertinent.report import label_plots, label_tables, numbers
from pertinent.report.definitions import metrics_of
from pertinent.report.html import render_page, write_page
from pertinent.report.label_files import Group, LabelFiles, read_labels
from pertinent.report.making import config_text
from pertinent.report.page import GENERATED_BANNER, links
from pertinent.report.run_files import mapping

_TITLES = {"source": "By source", "stratum": "By stratum", "language": "By language"}
_LINKED = ("quarantine.parquet", "plan.parquet", "manifest.json", "spend.jsonl")


def write_label_report(target: Path, out: Path | None = None, *, data: Path | None = None) -> Path:
    """Write the report of a run's labels as one HTML file, whole or not at all, and return its path.

    target: a run folder with labels/, or a folder of label shards. out: default: ``report.html`` beside the shards.
    data: the data stage's folder; default: beside the folder of labels. Raises DataError; see `read_labels`.
    """
    labels = read_labels(target, data)
    out = out or labels.folder / "report.html"
    write_page(render_page("labels.html.j2", _context(labels, out)), out)
    return out


def _context(labels: LabelFiles, out: Path) -> dict[str, Any]:
    found = label_tables.agreement(labels)
    columns = {
        column: label_tables.shown_groups(groups) for column, groups in labels.groups.items() if column in _TITLES
    }
    wanted = {metric.key for metric in found.metrics} if found else set()
    return {
        "labels": labels,
        "facts": _facts(labels),
        "banner": GENERATED_BANNER if labels.dataset.get("generated") is True else "",
        "headline": label_tables.headline(labels, found),
        "fates": label_tables.fates(labels),
        "agreement": found,
        "is_judge": "judge" in mapping(labels.manifest.get("counts")),
        "tables": {_TITLES[column]: groups for column, groups in columns.items()},
        "grades": labels.scale.shown,
        "guidelines": labels.scale.guidelines,
        "metrics": [metric for metric in metrics_of(labels.scale.n_grades) if metric.key in wanted],
        "counts": numbers.flat(mapping(labels.manifest.get("counts"))),
        "config": config_text(labels.manifest.get("config")),
        "version": str(labels.manifest.get("package_version") or ""),
        "files": links(labels.folder, _LINKED, out),
        "legend": label_plots.grade_legend(labels.scale.shown),
        **_figures(labels, columns),
    }


def _facts(labels: LabelFiles) -> list[tuple[str, str]]:
    seconds = numbers.measured(labels.manifest.get("seconds"))
    facts = {
        "Data": str(labels.dataset.get("name") or ""),
        "Teacher": str(mapping(labels.manifest.get("counts")).get("teacher") or ""),
        "Grades": f"L1 to L{labels.scale.n_grades}",
        "Time": "" if seconds is None else numbers.duration(seconds),
        "Finished": str(labels.manifest.get("created_at") or "")[:16].replace("T", " "),
    }
    return [(name, value) for name, value in facts.items() if value]


def _figures(labels: LabelFiles, columns: dict[str, list[Group]]) -> dict[str, Any]:
    idents = (f"plot-{number}" for number in count(1))
    whole = [labels.groups["all"][0], label_tables.labelled_group(labels), label_tables.human_group(labels)]
    return {
        "whole_plots": [
            label_plots.grade_panel(next(idents), "Grades", [group for group in whole if group is not None]),
            label_plots.entropy_panel(next(idents), labels.entropies, labels.scale.n_grades),
        ],
        "group_plots": {
            _TITLES[column]: label_plots.grade_panel(next(idents), _TITLES[column], groups, titled=False)
            for column, groups in columns.items()
        },
    }
