"""Tables for the person at the terminal, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pertinent.evaluation.significance import ALPHA
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


def print_estimate(found: Mapping[str, Any]) -> None:
    """What labelling would take: pairs and tokens, and a row an engine."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    told = f"{count(found['rows'])} pairs, {count(found['cached'])} of them cached"
    table = Table(title=f"{told}; about {count(found['tokens'])} tokens to read", title_justify="left")
    table.add_column("engine")
    for column in ("workers", "pairs/s", "hours", "cost, USD"):
        table.add_column(column, justify="right")
    for name, engine in found["engines"].items():
        rate = "-" if engine["pairs_per_s"] is None else f"{engine['pairs_per_s']:,.1f}"
        cost = "-" if engine["cost_usd"] is None else f"{engine['cost_usd']:,.2f}"
        table.add_row(name, str(engine["workers"]), rate, f"{engine['hours']:,.2f}", cost)
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


def print_comparison(found: Mapping[str, Any], console: Console | None = None) -> None:
    """A row a measure and a column a run, marked where it differs from the first one; the slices; the notes; the gate."""
    console = console or Console(stderr=True, highlight=False)
    judged = found["judgments"]
    title = f"{count(judged['n_pairs'])} judged pairs of {count(judged['n_queries'])} queries"
    _print_runs(found, found, title, console)
    for column, values in found["slices"].items():
        for value, part in values.items():
            size = f"{count(part['n_pairs'])} pairs, {count(part['n_queries'])} queries"
            _print_runs(
                part, found, f"{column} = {value}: {size}{', ' + part['note'] if part['note'] else ''}", console
            )
    if len(found["systems"]) > 1:
        first = next(iter(found["systems"]))
        corrected = {"none": "not corrected"}.get(found["correction"], f"corrected by {found['correction']}")
        console.print(
            f"▲ better, ▼ worse than {first}, p < .05 of a randomisation test by query, {corrected}", markup=False
        )
    for note in found["notes"]:
        console.print(f"- {note}", markup=False)
    if found["gate"] is not None:
        _print_gate(found["gate"], console)


def _print_runs(part: Mapping[str, Any], found: Mapping[str, Any], title: str, console: Console) -> None:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("measure", overflow="fold")
    for name in part["systems"]:
        table.add_column(escape(name), justify="right", overflow="fold")
    for measure in found["measures"]:
        cells = []
        for name, values in part["systems"].items():
            interval = part["intervals"][name][measure]
            spread = "" if interval is None else f" [{decimals(interval[0])}, {decimals(interval[1])}]"
            paired = part["differences"].get(name, {}).get(measure)
            mark = _mark(paired, measure in found["lower_is_better"])
            cells.append(escape(f"{_number(values[measure])}{mark}{spread}"))
        table.add_row(escape(measure), *cells)
    console.print(table)


def _mark(paired: Mapping[str, Any] | None, lower_is_better: bool) -> str:
    """How a run stands to the first one: the difference is of the first less the run."""
    if paired is None or paired["difference"] is None:
        return ""
    p = paired["p_adjusted"]
    if p is None or p >= ALPHA or paired["difference"] == 0:
        return ""
    first_is_better = (paired["difference"] > 0) != lower_is_better
    return " ▼" if first_is_better else " ▲"


def _print_gate(gate: Mapping[str, Any], console: Console) -> None:
    for each in gate["checks"]:
        what = f"{each['measure']} against {each['baseline']}, {each['part']}"
        if each["p_value"] is None:
            console.print(f"gate: not judged: {what}: {each['gap']}", markup=False, soft_wrap=True)
        elif each["worse"]:
            by = f"{each['difference']:+.4f}, p {each['p_adjusted']:.2g}"
            margin = f" (margin {each['margin']:g})" if each["margin"] else ""
            console.print(f"gate: WORSE: {what}: {by}{margin}", markup=False, soft_wrap=True)
    n = sum(each["p_value"] is not None for each in gate["checks"])
    console.print(f"gate: {'passed' if gate['passed'] else 'FAILED'}, {n} checks", markup=False)


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
