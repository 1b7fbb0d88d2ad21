"""Label scaling on the page: drawn where a run has it, and never made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pertinent.report import write_report
from pertinent.report.plots import _thousands
from pertinent.report.scaling import label_scaling


def point(n_labels: Any, value: Any, spread: float = 0.01) -> dict[str, Any]:
    interval = None if value is None else [value - spread, value + spread]
    return {"n_labels": n_labels, "metrics": {"auroc_4+": value}, "intervals": {"auroc_4+": interval}}


DOCUMENT = {
    "metric": "auroc_4+",
    "points": [point(30_000, 0.74), point(1_500, 0.7)],
    "ceiling": {"metrics": {"auroc_4+": 0.77}},
}


def test_points_are_in_the_order_of_labels() -> None:
    found = label_scaling(DOCUMENT, 5)
    assert found is not None
    assert [(p.n_labels, p.cell.text, p.cell.interval) for p in found.points] == [
        (1_500, ".700", "[.690, .710]"),
        (30_000, ".740", "[.730, .750]"),
    ]
    assert (found.metric.name, found.teacher, found.drawable) == ("AUROC 4+", 0.77, True)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"metric": "auroc_4+"},
        {"metric": "auroc_9+", "points": [point(5, 0.5)]},
        {**DOCUMENT, "points": [point("x", 1), point(0, 1), 3]},
    ],
)
def test_what_is_not_there_is_no_scaling(document: dict[str, Any]) -> None:
    assert label_scaling(document, 5) is None


def test_the_page_draws_the_line_and_its_table(make_run: Callable[..., Path]) -> None:
    run = make_run()
    assert "Label scaling" not in write_report(run).read_text(encoding="utf-8")
    (run / "evaluation" / "label_scaling.json").write_text(json.dumps(DOCUMENT))
    page = write_report(run).read_text(encoding="utf-8")
    assert "AUROC 4+ of the student by number of labels" in page
    assert "1,500 labels .700 [.690, .710]; 30,000 labels .740 [.730, .750]; the teacher .770." in page
    assert '<th scope="row">30,000</th>' in page
    assert ">1.5k</text>" in page


def test_no_axis_goes_beyond_1(make_run: Callable[..., Path]) -> None:
    run = make_run()
    points = [point(1_500, 0.985), point(30_000, 0.99)]
    document = {**DOCUMENT, "points": points, "ceiling": {"metrics": {"auroc_4+": 1.0}}}
    (run / "evaluation" / "label_scaling.json").write_text(json.dumps(document))
    page = write_report(run).read_text(encoding="utf-8")
    assert ">1.00</text>" in page
    assert ">1.02</text>" not in page


def test_a_single_point_or_one_without_a_value_is_told_and_not_drawn(make_run: Callable[..., Path]) -> None:
    run = make_run()
    document = {**DOCUMENT, "points": [point(1_500, None), point(30_000, 0.74)]}
    (run / "evaluation" / "label_scaling.json").write_text(json.dumps(document))
    page = write_report(run).read_text(encoding="utf-8")
    assert "student by number of labels</title>" not in page
    assert "no number: not defined on these pairs" in page


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (1_500, "1.5k"), (999_400, "999k"), (999_812, "1M"), (30_000_000, "30M")]
)
def test_a_tick_has_at_most_three_digits(number: int, text: str) -> None:
    assert _thousands(number) == text
