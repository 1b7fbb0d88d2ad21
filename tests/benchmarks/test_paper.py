"""`make paper`: what is measured in what order, what an hour leaves, how it resumes, and what its page says of the figures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import paper
import paper_page
from common import ROOT, Row, write_results
from paper_claims import AGREES, DISAGREES, UNDECIDED, UNMEASURED, apart, paired, rising, sentence, standing
from pertinent.errors import DataError

PLAN = (
    paper.Step("a", "teacher_models", ("bm25", "e5/*"), 5),
    paper.Step("e", "pipeline", ("esci/*",), 15, together=True),
    paper.Step("a", "teacher_models", ("*",), 20),
)
KNOWN = {"teacher_models": ["bm25", "best", "e5/0", "e5/1"], "pipeline": ["esci/a", "esci/b", "homedepot/a"]}


def figures(value: float, spread: float = 0.01, **more: Any) -> dict[str, Any]:
    """A row's figures: every metric of one value, with an interval around it."""
    metrics = dict.fromkeys(paper_page.METRICS, value)
    return {**metrics, "intervals": {m: [value - spread, value + spread] for m in metrics}, "n_pairs": 9_429, **more}


def write(folder: Path, name: str, rows: Mapping[str, Mapping[str, Any]], seconds: float = 60.0) -> None:
    made = {"command": "python x.py", "commit": "abc", "date": "2026-03-04", "machine": "A Processor"}
    found = [Row(row, values, seconds, **made) for row, values in rows.items()]
    write_results(name, found, lambda _: [], seeds=[0], started=time.monotonic(), folder=folder)


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[paper.Unit]:
    monkeypatch.setattr(paper, "rows_of", lambda script: KNOWN[script])
    write(tmp_path, "teacher_models", {"e5/0": figures(0.5)}, seconds=720.0)
    write(tmp_path, "pipeline", {"esci/a": figures(0.5), "esci/b": figures(0.5)}, seconds=600.0)
    return paper.units_of(PLAN, list(paper.PARTS), tmp_path)


def test_every_row_is_measured_once_in_the_order_of_the_plan(units: list[paper.Unit]) -> None:
    assert [(unit.pattern, unit.rows, unit.minutes) for unit in units] == [
        ("bm25", ("bm25",), 5),
        ("e5/0", ("e5/0",), 12),  # as it took
        ("e5/1", ("e5/1",), 5),
        ("esci/*", ("esci/a", "esci/b"), 10),  # rows of one run share its time
        ("best", ("best",), 20),
    ]


def test_a_pattern_without_a_row_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paper, "rows_of", lambda script: ["bm25"])
    with pytest.raises(DataError, match=r"teacher_models.py: expected a row e5/\*, found bm25"):
        paper.units_of(PLAN, ["a"], tmp_path)


def test_what_fits_is_measured_and_the_same_command_goes_on(
    units: list[paper.Unit], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[str] = []
    mended = False

    def measured(unit: paper.Unit, *, quick: bool) -> bool:
        calls.append(unit.pattern)
        return unit.pattern != "bm25" or mended

    monkeypatch.setattr(paper, "_measured", measured)
    left, failed = paper.measure(units, paper.Notes(tmp_path / "done.json"), 11, quick=False)
    assert calls == ["bm25", "e5/1", "esci/*"]
    assert [unit.pattern for unit in left] == ["e5/0", "best"]
    assert [unit.pattern for unit in failed] == ["bm25"]
    calls.clear()
    mended = True
    left, failed = paper.measure(units, paper.Notes(tmp_path / "done.json"), float("inf"), quick=False)
    assert calls == ["bm25", "e5/0", "best"]
    assert (left, failed) == ([], [])
    calls.clear()
    assert paper.measure(units, paper.Notes(tmp_path / "done.json"), float("inf"), quick=False) == ([], [])
    assert calls == []


def test_a_benchmark_lists_its_rows() -> None:
    assert paper.rows_of("alternatives") == ["lightgbm", "lightgbm-lambdarank", "cross-encoder-16k", "cross-encoder-4k"]


def test_the_plan_covers_every_part() -> None:
    assert {step.part for step in paper.PLAN} == paper.PARTS.keys()


@pytest.mark.slow
def test_every_pattern_of_the_plan_has_a_row(tmp_path: Path) -> None:
    found = paper.units_of(paper.PLAN, list(paper.PARTS), tmp_path)
    rows = [(unit.step.script, row) for unit in found for row in unit.rows]
    assert len(rows) == len(set(rows)) > 40
    # A search and losses are no table of the paper's; all that they need is.
    assert not any(row.startswith(("search/", "titles/")) for _, row in rows)


def test_a_wrong_part_is_one_line() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "paper.py"), "--parts", "z"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.strip() == "paper.py: --parts z: expected one of a, b, c, d, e"


def test_claims_by_intervals() -> None:
    low, high = {"row": "low", **figures(0.50)}, {"row": "high", **figures(0.55)}
    assert apart("x", "A", high, low, "accuracy").verdict == AGREES
    assert apart("x", "A", low, high, "accuracy").verdict == DISAGREES
    near = {"row": "near", **figures(0.51)}
    found = apart("x", "A", near, low, "accuracy")  # .500 to .520 and .490 to .510 overlap
    assert (found.verdict, found.here) == (UNDECIDED, "near .510 [.500, .520], low .500 [.490, .510]: +2.0%")
    assert apart("x", "A", None, low, "accuracy").verdict == UNMEASURED
    for ends, verdict in (([0.01, 0.05], AGREES), ([-0.05, -0.01], DISAGREES), ([-0.01, 0.05], UNDECIDED)):
        assert paired("x", "A", {"difference": 0.02, "interval": ends}, "gain").verdict == verdict
    assert paired("x", "A", {"difference": 0.02, "interval": None}, "gain").verdict == UNDECIDED
    assert paired("x", "A", {}, "gain").verdict == UNMEASURED


def test_measures_are_told_one_by_one_and_a_paired_difference_decides_where_there_is_one() -> None:
    low = {"row": "low", **figures(0.50)}
    row = {"accuracy": 0.55, "ndcg@20": 0.51, "auroc_3+": 0.45, "auroc_4+": 0.51, "pair_accuracy": 0.55, "map": 0.9}
    row["intervals"] = {metric: [value - 0.01, value + 0.01] for metric, value in row.items() if metric != "map"}
    differences = {"auroc_4+": {"interval": [0.002, 0.018]}, "pair_accuracy": {"interval": None}}
    found = standing(row, low, (*paper_page.METRICS, "map"), differences)
    assert found.above == ("accuracy", "auroc_4+", "pair_accuracy")
    assert found.untold == ("ndcg@20",)
    assert found.below == ("auroc_3+",)


def test_the_page_says_by_which_measures_a_teacher_is_above_and_by_which_not(tmp_path: Path) -> None:
    best = figures(0.55)
    best["intervals"]["ndcg@20"] = [0.49, 0.60]
    write(tmp_path, "teacher_models", {"cosine-e5": figures(0.5), "best": best})
    page = paper_page.page(tmp_path)
    assert "| best | cosine-e5 | accuracy, AUROC 3+, AUROC 4+, AUROC 5+, pair_accuracy | ndcg@20 | - |" in page
    assert "| best | bm25 |" not in page


def test_a_rise_is_at_every_step() -> None:
    assert rising("x", "A", [("1", 0.5), ("2", 0.6), ("3", 0.7)]).verdict == AGREES
    found = rising("x", "A", [("1", 0.5), ("2", 0.6), ("3", 0.6)])
    assert (found.verdict, found.here) == (DISAGREES, "1 .500, 2 .600, 3 .600; not from 2 to 3")
    assert rising("x", "A", [("1", 0.5), ("2", None)]).verdict == UNMEASURED
    assert rising("x", "A", []).verdict == UNMEASURED


def test_languages_without_labels_are_told_by_their_own_figures(tmp_path: Path) -> None:
    def cell(value: float) -> dict[str, Any]:
        return {"auroc_expert": value, "intervals": {"auroc_expert": [value - 0.01, value + 0.01]}}

    rows = {f"flickr8k/{s}/{c}": cell(v) for s, v in (("embedding", 0.6), ("teacher", 0.7)) for c in ("zh-zh", "en-en")}
    write(
        tmp_path, "language_transfer", {**rows, "labels": {"n": 3}, "kuake/teacher": {"auroc": 0.55, "intervals": {}}}
    )
    page = paper_page.page(tmp_path)
    assert "| flickr8k/teacher/zh-zh | .700 <sub>.690-.710</sub> | - | - | - |" in page
    assert "| kuake/teacher | .550 | - |" in page
    assert "flickr8k/embedding/zh-zh .600 [.590, .610]: +16.7% | agrees |" in page
    assert "likewise) | A | - | not measured yet |" in page
    assert "| labels |" not in page


def test_what_needs_hours_before_its_first_row_waits_for_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    monkeypatch.setattr(paper, "_measured", lambda unit, *, quick: not calls.append(unit.pattern))
    step = paper.Step("c", "label_scaling", ("*",), 5, only_full=True)
    units = [paper.Unit(step, "0x/0", ("0x/0",), 5)]
    notes = paper.Notes(tmp_path / "done.json")
    assert paper.measure(units, notes, 60, quick=False) == (units, [])
    assert calls == []
    assert paper.measure(units, notes, float("inf"), quick=False) == ([], [])
    assert calls == ["0x/0"]


def test_a_step_of_label_scaling_waits_for_all_its_seeds() -> None:
    rows = {f"{n}x/{seed}": {"label_rows": n, "auroc_4+": 0.5 + n / 100} for n in (1, 3) for seed in (0, 1)}
    rows["teacher"] = {"auroc_4+": 0.9}
    assert paper_page.label_steps(rows) == [("1", 0.51), ("3", 0.53)]
    del rows["3x/1"]
    assert paper_page.label_steps(rows) == [("1", 0.51), ("3", None)]


def test_the_sentence_names_what_agrees_and_what_does_not() -> None:
    claims = [
        paired(f"claim {n}", "A", {"difference": d, "interval": [d - 0.1, d + 0.1]}, "")
        for n, d in ((1, 0.5), (2, -0.5), (3, 0.2))
    ]
    assert sentence(claims) == "**Agrees**: claim 1; claim 3. **Does not agree**: claim 2."


def test_without_results_every_row_is_a_marked_gap_and_no_figure_is_made_up(tmp_path: Path) -> None:
    page = paper_page.page(tmp_path / "nowhere")
    assert page.count("not measured yet") > 20
    ours = page.partition("Home Depot, five grades")[2]
    assert "<sub>" not in ours
    assert "**Agrees**:" not in page
    assert "**Does not agree**:" not in page
    for part in paper.PARTS:
        assert f"## ({part})" in page


def test_figures_come_from_the_results_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        "teacher_models",
        {"cosine-e5": figures(0.40), "e5/0": figures(0.48), "gemma-lora": figures(0.5, n_pairs=2_000)},
    )
    chain = {
        f"homedepot/{s}": figures(v)
        for s, v in (("bm25", 0.4), ("embedding", 0.42), ("teacher", 0.5), ("student", 0.49))
    }
    write(tmp_path, "pipeline", chain)
    gain = {"difference": 0.031, "interval": [0.01, 0.05], "each": [0.031], "n_queries": 400}
    write(
        tmp_path,
        "text_fields",
        {"msrd/title/0": figures(0.6), "msrd/title/1": figures(0.7), "msrd/differences": {"user_actions-links": gain}},
    )
    page = paper_page.page(tmp_path)
    assert "e5/0 .480 [.470, .490], cosine-e5 .400 [.390, .410]: +20.0% | agrees |" in page
    assert "| gemma-lora | .500 <sub>.490-.510</sub>" in page
    assert "| other pairs | 2,000 |" in page
    assert "| Home Depot | .490 <sub>.480-.500</sub> | .500 <sub>.490-.510</sub> | 98% | 90% | 90% | 90% |" in page
    assert "MSRD, AUROC 2+, +.031 [.010, .050] | agrees |" in page
    assert "**Agrees**: Home Depot: the student is above the embedding baseline" in page
    assert "| BM25 | *not measured yet* | - |" in page
