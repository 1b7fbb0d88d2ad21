"""The teachers' tables on the page of results: generated from results files, and from nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import results_page
from common import Row, Target, write_results
from teacher_page import METRICS, PARTS, TITLES, teacher_sections

ON_TEST = {
    **dict.fromkeys([*METRICS, "qwk"], 0.5),
    "intervals": {metric: [0.4, 0.6] for metric in [*METRICS, "qwk"]},
    "dev_auroc": 0.7654,
    "n_pairs": 9_876,
    "train_seconds": 1_234.4,
    "peak_gib": 3.21,
}
ON_DEV = {**{f"dev_{metric}": 0.25 for metric in METRICS}, "dev_auroc": 0.3456, "train_seconds": 600.0, "peak_gib": 2.0}
SPEED = {"pairs_per_s": 1_234.5, "lowest": 1_200.0, "highest": 1_300.0, "peak_gib": 2.5, "share_of_peak": 0.42}
ROUND_TRIP = {"largest_difference": 2.1e-6, "with_a_fresh_head": 0.74, "peak_gib": 1.5}


def write(folder: Path, name: str, figures: Mapping[str, Mapping[str, Any]], **made: Any) -> None:
    """A results file of these rows, with one aim that is met and one that is not measured."""
    about = {
        "command": "python benchmarks/x.py",
        "commit": "abc",
        "date": "2026-03-04",
        "machine": "A Processor",
    } | made
    rows = [Row(row, values, 60.0, **about) for row, values in figures.items()]
    targets = [Target("one", 0.5, ">=", 0.7), Target("two", 0.5, ">=", 0.4), Target("three", 2.0, "<=", None)]
    write_results(name, rows, lambda _: targets, seeds=[0], started=time.monotonic(), folder=folder)


def section_of(page: str, name: str) -> str:
    return page.partition(f"## {TITLES[name]}\n")[2].partition("\n## ")[0]


def test_a_benchmark_without_results_has_no_section(tmp_path: Path) -> None:
    assert teacher_sections(tmp_path) == []
    assert results_page.NO_RESULTS in results_page.page(tmp_path)
    write(tmp_path, "teacher_losses", {"coral/0": ON_TEST})
    page = results_page.page(tmp_path)
    assert results_page.NO_RESULTS not in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [f"## {TITLES['teacher_losses']}"]


def test_a_benchmark_without_a_form_of_its_own_has_the_columns_that_it_prints(tmp_path: Path) -> None:
    figures = {"accuracy": 0.5, "intervals": {"accuracy": [0.45, 0.55]}, "labels": 24_000}
    write(tmp_path, "label_scaling", {"1x/0": figures})
    write(tmp_path, "metrics_speed", {"one": {"n_pairs": 1_000_000, "values_s": 12.3456, "slowest": "map"}})
    page = results_page.page(tmp_path)
    assert "## Label scaling\n\nStudent quality by how many pairs" in page
    assert "| 1x/0 | - | 24,000 | .500 <sub>.450-.550</sub> | - |" in page
    assert "| one | 1,000,000 | 12.35 | - | - | - | map |" in page
    assert page.count("Targets met: 1 of 3.") == 2
    assert page.count("A Processor; 2026-03-04; commit abc") == 2


def test_models_have_their_figures_and_the_search_on_dev_a_table_of_its_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        "teacher_models",
        {"e5/0": ON_TEST, "search/coral": ON_DEV, "bm25": {**ON_TEST, "train_seconds": None}},
    )
    section = section_of(results_page.page(tmp_path), "teacher_models")
    tables = [part for part in section.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    measured = " | ".join([".500 <sub>.400-.600</sub>"] * len(METRICS))
    assert f"| e5/0 | {measured} | .765 | 9,876 | 1,234 | 3.21 |" in tables[0]
    assert f"| bm25 | {measured} | .765 | 9,876 | - | 3.21 |" in tables[0]
    assert "search/" not in tables[0]
    assert tables[1].splitlines()[2:] == [
        f"| search/coral | {' | '.join(['.250'] * len(METRICS))} | .346 | 600 | 2.00 |"
    ]
    assert "on dev alone" in section


def test_a_table_without_rows_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "teacher_models", {"e5/0": ON_TEST})
    assert "on dev alone" not in results_page.page(tmp_path)


def test_losses_speed_and_round_trips_are_shown(tmp_path: Path) -> None:
    write(tmp_path, "teacher_losses", {"coral/0": ON_TEST})
    quality = {f"auroc_{k}+": 0.81 for k in (3, 4, 5)}
    write(
        tmp_path, "teacher_speed", {"train/ours": SPEED, "quality/ours/0": {**SPEED, **quality, "share_of_peak": None}}
    )
    write(tmp_path, "head_round_trip", {"e5-lora/onnx": ROUND_TRIP})
    page = results_page.page(tmp_path)
    measured = " | ".join([".500 <sub>.400-.600</sub>"] * (len(METRICS) + 1))
    assert f"| coral/0 | {measured} | .765 | 1,234 | 3.21 |" in section_of(page, "teacher_losses")
    speed = section_of(page, "teacher_speed")
    assert "| train/ours | 1,234.5 <sub>1,200.0-1,300.0</sub> | 42% | 2.50 | - | - | - |" in speed
    assert "| quality/ours/0 | 1,234.5 <sub>1,200.0-1,300.0</sub> | - | 2.50 | .810 | .810 | .810 |" in speed
    assert "| e5-lora/onnx | 2.1e-06 | 0.74 | 1.50 |" in section_of(page, "head_round_trip")


@pytest.mark.parametrize("name", list(TITLES))
def test_targets_met_and_missed_are_told(tmp_path: Path, name: str) -> None:
    assert PARTS.keys() == TITLES.keys()
    figures = {"teacher_speed": SPEED, "head_round_trip": ROUND_TRIP}.get(name, ON_TEST)
    write(tmp_path, name, {"a": figures})
    section = section_of(results_page.page(tmp_path), name)
    assert "Targets met: 1 of 3." in section
    assert "- Missed: two: 0.4, aim >= 0.5" in section
    assert "- Not measured yet: three, aim <= 2.0" in section
    assert "one:" not in section
    assert f"A Processor; 2026-03-04; commit abc; `python benchmarks/{name}.py`." in section


def test_rows_of_other_code_or_another_day_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "teacher_losses", {"coral/0": ON_TEST, "coral/1": ON_TEST})
    older = {**ON_TEST, "teacher_code": "older", "teacher_date": "2026-02-01"}
    write(tmp_path, "teacher_losses", {"corn/0": older}, date="2026-03-05", commit="def")
    same = {**ON_TEST, "teacher_code": "def", "teacher_date": "2026-03-05"}
    write(tmp_path, "teacher_losses", {"corn/1": same}, date="2026-03-05", commit="def")
    section = section_of(results_page.page(tmp_path), "teacher_losses")
    assert "Made by `python benchmarks/teacher_losses.py`:" in section
    assert "- coral/0, coral/1: A Processor; 2026-03-04; commit abc\n" in section
    assert "- corn/0: A Processor; 2026-03-05; commit def, teacher of 2026-02-01 at older\n" in section
    assert "- corn/1: A Processor; 2026-03-05; commit def\n" in section


def test_a_row_that_lacks_a_figure_of_its_table_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "teacher_losses", {"coral/0": {k: v for k, v in ON_TEST.items() if k != "auroc_4+"}})
    with pytest.raises(KeyError, match="auroc_4"):
        results_page.page(tmp_path)
