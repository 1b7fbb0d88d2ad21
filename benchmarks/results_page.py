"""Write docs/results.md from benchmarks/results/*.json: the page is never typed by hand.

python benchmarks/results_page.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT
from page_tables import cell, interval, number, shown, table, target_lines
from pertinent.files import read_json
from pertinent.report.definitions import main_threshold
from pertinent.report.numbers import duration, signed
from serving_page import serving_sections
from teacher_page import NAME, TITLES, Column, Part, benchmark_section, teacher_sections

PAGE = ROOT / "docs" / "results.md"
DATA_SETS = {
    "homedepot": "Home Depot product search (English, five grades)",
    "esci_us_small": "Amazon ESCI, US small set (English, four grades)",
    "pinboard": "Pinboard (generated: no quality claim rests on it)",
}
HEAD = (
    "# Results on real data\n\nWritten by `benchmarks/results_page.py` from `benchmarks/results/*.json`. Held-out queries, "
    "one seed; 95% intervals by bootstrap over queries. [How each number is computed](metrics.md)."
)
NO_RESULTS = "There is no result yet: `make bench` measures and writes it, then this page."


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(RESULTS), encoding="utf-8")


def page(results: Path) -> str:
    """The page as text. results: the folder of the results files; it need not exist."""
    file = results / "pipeline.json"
    parts = pipeline_sections(read_json(file)) if file.is_file() else []
    parts += [*teacher_sections(results), *serving_sections(results), *other_sections(results)]
    return "\n\n".join([HEAD, *(parts or [NO_RESULTS])]) + "\n"


def pipeline_sections(document: Mapping[str, Any]) -> list[str]:
    """A section for each data set, then the targets."""
    found = []
    for name, title in DATA_SETS.items():
        rows = [row for row in document["rows"] if row["dataset"] == name]
        if rows:
            found += [f"## {title}", *data_set_section(rows)]
    return [*found, *target_section(document["targets"])]


def data_set_section(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of systems, the languages where there are several, the student's lead, and how it was made."""
    n_grades = 1 + sum(key.startswith("auroc_") for key in rows[0])
    thresholds = [f"auroc_{k}+" for k in range(max(2, n_grades - 2), n_grades + 1)]
    metrics = ["accuracy", *thresholds, "pair_accuracy", "ndcg@20", "ece"]
    cells = [[row["system"], *(cell(row, metric) for metric in metrics)] for row in rows]
    parts = [table(["system", *(shown(metric) for metric in metrics)], cells)]
    main_metric = f"auroc_{main_threshold(n_grades)}+"
    languages = list(rows[0]["languages"])
    if len(languages) > 1:
        cells = [[r["system"], *(number(r["languages"][x][main_metric]) for x in languages)] for r in rows]
        parts += [f"{shown(main_metric)} by language of the query:", table(["system", *languages], cells)]
    parts += [lead(row, main_metric) for row in rows if "differences" in row]
    return [*parts, *made(rows)]


def lead(row: Mapping[str, Any], metric: str) -> str:
    """The system less each baseline, on the same resamples of queries."""
    said = []
    for baseline, metrics in row["differences"].items():
        paired = metrics[metric]
        if paired["difference"] is not None:
            said.append(f"{baseline} {signed(paired['difference'])}{interval(paired['interval'])}")
    return f"{shown(metric)}, {row['system']} less a baseline: {'; '.join(said) or 'not defined'}."


def made(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the rows were made, each way told once."""
    found = {}
    for row in rows:
        stages = ", ".join(f"{stage} {seconds:,.0f}" for stage, seconds in row["stage_seconds"].items())
        text = f"{duration(row['seconds'])} in all (seconds by stage: {stages}). {row['machine']}; {row['date']}; "
        text += f"commit {row['commit']}; `{row['command']}`."
        found.setdefault(text, []).append(row["system"])
    if len(found) == 1:
        return list(found)
    return [f"{', '.join(systems)}: {text}" for text, systems in found.items()]


def other_sections(results: Path) -> list[str]:
    """A section for each results file that has none of its own form: the columns that its benchmark prints."""
    found = []
    for file in sorted(results.glob("*.json")):
        if file.stem not in ("pipeline", "serving", *TITLES):
            benchmark = import_module(file.stem)
            lead = (benchmark.__doc__ or "").partition("\n")[0]
            columns = [Column(shown(key), lambda row, key=key: _told(row, key)) for key in benchmark.COLUMNS]  # type: ignore[misc]
            part = Part(lead, lambda row: True, [NAME, *columns])
            found += [f"## {file.stem.replace('_', ' ').capitalize()}", *benchmark_section(read_json(file), [part])]
    return found


def _told(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    if key in row.get("intervals", {}):
        return cell(row, key)
    return str(value) if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def target_section(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many aims of the pipeline were met, and each that was not."""
    if not targets:
        return []
    return ["## Targets", target_lines(targets)]


if __name__ == "__main__":
    main()
