"""Tables for the person at the terminal, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_LABELS = {"accuracy": "accuracy", "pair_accuracy": "pairs", "ndcg@20": "nDCG@20"}


def print_outcome(outcome: Mapping[str, Any]) -> None:
    """The end of `pertinent run`: the table of systems, the report's path and the next command."""
    console = Console(stderr=True, highlight=False)
    if outcome["metrics"] is None:
        console.print(f"Stages up to {list(outcome['stages'])[-1]} are in {outcome['run']}", soft_wrap=True)
        return
    print_metrics(outcome["metrics"], console)
    console.print(f"\nReport: [bold]{outcome['report']}[/bold]", soft_wrap=True)
    console.print(
        f'Next:   [bold]pertinent score {outcome["run"]} --query "your query" --top 10[/bold]', soft_wrap=True
    )


def print_metrics(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """One row a system; then, where there are several languages, AUROC of the middle threshold in each."""
    console = console or Console(stderr=True, highlight=False)
    thresholds = [f"auroc_{k}+" for k in range(max(2, metrics["n_grades"] - 2), metrics["n_grades"] + 1)]
    columns = ["accuracy", *thresholds, "pair_accuracy", "ndcg@20"]
    systems = metrics["system_order"]
    counts = metrics["counts"]
    title = f"Held-out judgments: {counts.get('test_pairs', '')} pairs" if "test_pairs" in counts else None
    table = Table(title=title, title_justify="left")
    table.add_column("system")
    for column in columns:
        table.add_column(_LABELS.get(column, column.replace("auroc_", "AUROC ")), justify="right")
    for system in systems:
        table.add_row(system, *[_number(metrics["systems"][system][column]) for column in columns])
    console.print(table)
    languages = metrics["slices"].get("language", {})
    if len(languages) > 1:
        _print_languages(languages, systems, thresholds[len(thresholds) // 2], console)


def _print_languages(languages: Mapping[str, Any], systems: list[str], metric: str, console: Console) -> None:
    table = Table(title=f"{metric.replace('auroc_', 'AUROC ')} by language of the query", title_justify="left")
    table.add_column("system")
    for language in languages:
        table.add_column(language, justify="right")
    for system in systems:
        table.add_row(system, *[_number(part["systems"][system][metric]) for part in languages.values()])
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else f"{value:.3f}"
