"""Tables for the person at the terminal, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from pertinent.report.definitions import main_threshold
from pertinent.report.numbers import count, decimals, duration

_LABELS = {"accuracy": "accuracy", "pair_accuracy": "pairs", "ndcg@20": "nDCG@20"}


def print_outcome(outcome: Mapping[str, Any], console: Console | None = None) -> None:
    """The end of `pertinent run`: the table of systems, the time, the report's path and the next command."""
    console = console or Console(stderr=True, highlight=False)
    took = f"{duration(outcome['seconds'])} in all"
    if outcome["metrics"] is None:
        last = list(outcome["stages"])[-1]
        console.print(f"Stages up to {last} are in {outcome['run']}; they took {took}", soft_wrap=True)
        return
    print_metrics(outcome["metrics"], console)
    console.print(f"\nTime:   {took}", soft_wrap=True)
    console.print(f"Report: [bold]{outcome['report']}[/bold]", soft_wrap=True)
    console.print(
        f'Next:   [bold]pertinent score {outcome["run"]} --query "your query" --top 10[/bold]', soft_wrap=True
    )


def print_metrics(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """One row a system; then, where there are several languages, the report's AUROC in each."""
    console = console or Console(stderr=True, highlight=False)
    n_grades, counts = metrics["n_grades"], metrics["counts"]
    thresholds = [f"auroc_{k}+" for k in range(max(2, n_grades - 2), n_grades + 1)]
    columns = ["accuracy", *thresholds, "pair_accuracy", "ndcg@20"]
    systems = metrics["system_order"]
    title = f"Held-out judgments: {count(counts['n_pairs'])} pairs of {count(counts['n_queries'])} queries"
    table = Table(title=title, title_justify="left")
    table.add_column("system")
    for column in columns:
        table.add_column(_LABELS.get(column, _shown(column)), justify="right")
    for system in systems:
        table.add_row(system, *[_number(metrics["systems"][system][column]) for column in columns])
    console.print(table)
    languages = metrics["slices"].get("language", {})
    if len(languages) > 1:
        _print_languages(languages, systems, f"auroc_{main_threshold(n_grades)}+", console)


def print_differences(differences: Mapping[str, Any], reference: str) -> None:
    """Each system's difference from the reference by metric, with its interval; starred where that leaves out 0."""
    console = Console(stderr=True, highlight=False)
    for name, by_metric in differences.items():
        table = Table(title=f"{name} less {reference}, on the same queries", title_justify="left")
        for column in ("metric", "difference", "95% interval"):
            table.add_column(column, justify="left" if column == "metric" else "right")
        for metric, found in by_metric.items():
            interval = "-"
            if found["interval"] is not None:
                low, high = found["interval"]
                interval = f"{low:+.3f} to {high:+.3f}{' *' if low > 0 or high < 0 else ''}"
            difference = "-" if found["difference"] is None else f"{found['difference']:+.3f}"
            table.add_row(_shown(metric), difference, interval)
        console.print(table)


def print_fields(done: Mapping[str, Any]) -> None:
    """The end of a stage that makes item fields: its folder, its counts, and each reason of the quarantine."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for name, number in done["counts"].items():
        if isinstance(number, int):
            console.print(f"{number:>9,}  {name.replace('_', ' ')}")
    for reason, number in done["quarantined"].items():
        console.print(f"{number:>9,}  quarantined: {reason}")
    console.print(f"Fields: {done['folder']}/fields.parquet")


def _print_languages(languages: Mapping[str, Any], systems: list[str], metric: str, console: Console) -> None:
    table = Table(title=f"{_shown(metric)} by language of the query", title_justify="left")
    table.add_column("system")
    for language in languages:
        table.add_column(language, justify="right")
    for system in systems:
        table.add_row(system, *[_number(part["systems"][system][metric]) for part in languages.values()])
    console.print(table)


def _shown(metric: str) -> str:
    return metric.replace("auroc_", "AUROC ")


def _number(value: float | None) -> str:
    return "-" if value is None else decimals(value)
