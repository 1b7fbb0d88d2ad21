"""Write docs/results.md from benchmarks/results/*.json: the page is never typed by hand.

python benchmarks/results_page.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pertinent.files import read_json

ROOT = Path(__file__).parent.parent
TITLES = {
    "pipeline_homedepot": "Home Depot product search (English, five grades)",
    "pipeline_esci_us_small": "Amazon ESCI, US small set (English, four grades)",
    "pipeline_pinboard": "Pinboard (generated: no quality claim rests on it)",
}


def main() -> None:
    """Write the page."""
    parts = [
        "# Results on real data",
        "",
        "Written by `benchmarks/results_page.py` from `benchmarks/results/*.json`. Held-out queries, one seed; 95% "
        "intervals by bootstrap over queries. [How each number is computed](metrics.md).",
    ]
    for name, title in TITLES.items():
        file = ROOT / "benchmarks" / "results" / f"{name}.json"
        if file.is_file():
            parts += ["", f"## {title}", "", *section(read_json(file))]
    (ROOT / "docs" / "results.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


def section(document: dict[str, Any]) -> list[str]:
    """One data set: the table of systems, the languages where there are several, time and targets."""
    rows = document["rows"]
    thresholds = sorted(key for key in rows[0] if key.startswith("auroc_"))[-3:]
    metrics = ["accuracy", *thresholds, "pair_accuracy", "ndcg@20", "ece"]
    lines = [
        f"| system | {' | '.join(metric.replace('auroc_', 'AUROC ') for metric in metrics)} |",
        f"|---|{'---|' * len(metrics)}",
    ]
    lines += [f"| {row['system']} | {' | '.join(cell(row, metric) for metric in metrics)} |" for row in rows]
    languages = list(rows[0]["languages"])
    if len(languages) > 1:
        middle = thresholds[1]
        lines += ["", f"{middle.replace('auroc_', 'AUROC ')} by language of the query:", ""]
        lines += [f"| system | {' | '.join(languages)} |", f"|---|{'---|' * len(languages)}"]
        for row in rows:
            lines.append(f"| {row['system']} | {' | '.join(number(row['languages'][x][middle]) for x in languages)} |")
    stages = ", ".join(f"{stage} {seconds:,.0f}" for stage, seconds in document["stage_seconds"].items())
    lines += [
        "",
        f"{document['seconds'] / 60:.1f} minutes in all (seconds by stage: {stages}). {document['machine']}; ",
    ]
    lines[-1] += f"{document['date']}; commit {document['commit']}; `{document['command']}`."
    missed = [target for target in document["targets"] if not target["met"]]
    met = len(document["targets"]) - len(missed)
    lines += ["", f"Targets met: {met} of {len(document['targets'])}."]
    lines += [f"- Missed: {t['name']}: {t['measured']}, aim {t['direction']} {t['aim']}" for t in missed]
    if (note := document.get("note")) is not None:
        lines += ["", note]
    return lines


def cell(row: dict[str, Any], metric: str) -> str:
    """A figure with its interval."""
    interval = row["intervals"].get(metric)
    spread = f" <sub>{number(interval[0])}-{number(interval[1])}</sub>" if interval else ""
    return number(row[metric]) + spread


def number(value: float | None) -> str:
    """Three decimals, as in ".719"; "-" where there is none."""
    return "-" if value is None else f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"


if __name__ == "__main__":
    main()
