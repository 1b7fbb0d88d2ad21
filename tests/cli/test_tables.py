from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pertinent.cli.tables import print_metrics, print_outcome

SYSTEMS = ("bm25", "student")


def values(n_grades: int, start: float) -> dict[str, float | None]:
    """Each metric another number: auroc_2+ is ``start``, the next .01 more, and so on; no accuracy."""
    thresholds = {f"auroc_{k}+": start + (k - 2) / 100 for k in range(2, n_grades + 1)}
    return {"accuracy": None, **thresholds, "pair_accuracy": 0.5, "ndcg@20": 1.0}


def metrics(n_grades: int, languages: tuple[str, ...]) -> dict[str, Any]:
    def part(start: float) -> dict[str, Any]:
        return {"systems": {system: values(n_grades, start + i / 10) for i, system in enumerate(SYSTEMS)}}

    return {
        "n_grades": n_grades,
        "system_order": list(SYSTEMS),
        **part(0.6),
        "counts": {"n_pairs": 1635, "n_queries": 200},
        "slices": {"language": {language: part(0.3 + i / 10) for i, language in enumerate(languages)}},
    }


def printed(show: Any, document: Any) -> str:
    stream = io.StringIO()
    show(document, Console(file=stream, width=200))
    return stream.getvalue()


def row_of(text: str, system: str) -> list[str]:
    line = next(line for line in text.splitlines() if system in line)
    return [cell.strip() for cell in line.strip("│| ").replace("|", "│").split("│")]


def test_the_table_says_how_much_was_judged_and_each_systems_figures() -> None:
    text = printed(print_metrics, metrics(5, ("en",)))
    assert "Held-out judgments: 1,635 pairs of 200 queries" in text
    assert row_of(text, "bm25") == ["bm25", "-", ".610", ".620", ".630", ".500", "1.000"]
    assert row_of(text, "student") == ["student", "-", ".710", ".720", ".730", ".500", "1.000"]
    assert "by language" not in text


@pytest.mark.parametrize(("n_grades", "threshold", "figure"), [(5, 4, ".320"), (4, 3, ".310"), (3, 2, ".300")])
def test_languages_are_compared_at_the_reports_threshold(n_grades: int, threshold: int, figure: str) -> None:
    text = printed(print_metrics, metrics(n_grades, ("en", "de")))
    assert f"AUROC {threshold}+ by language of the query" in " ".join(text.split())
    assert row_of(text[text.index("by language") :], "bm25")[1] == figure


def test_the_outcome_ends_with_the_time_the_report_and_the_next_command() -> None:
    outcome = {"run": "runs/x", "seconds": 432.0, "report": "runs/x/report.html", "metrics": metrics(5, ("en",))}
    lines = printed(print_outcome, outcome).splitlines()
    assert lines[-3:] == [
        "Time:   7 min 12 s in all",
        "Report: runs/x/report.html",
        'Next:   pertinent score runs/x --query "your query" --top 10',
    ]


def test_an_outcome_without_an_evaluation_names_the_last_stage() -> None:
    outcome = {"run": "runs/x", "stages": {"data": {}, "text": {}}, "seconds": 5.25, "report": None, "metrics": None}
    assert printed(print_outcome, outcome) == "Stages up to text are in runs/x; they took 5.2 s in all\n"
