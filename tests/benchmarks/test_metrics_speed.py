from __future__ import annotations

import sys
from pathlib import Path

import pytest

import metrics_speed
from pertinent.files import read_json


def test_the_quick_form_measures_every_metric_and_leaves_the_target_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["metrics_speed.py", "--quick", "--rows", "10M", "--out", str(tmp_path)])
    metrics_speed.run_main(metrics_speed.main)
    document = read_json(tmp_path / "metrics_speed.json")
    (row,) = document["rows"]
    assert row["n_pairs"] == metrics_speed.QUICK_PAIRS
    assert row["n_metrics"] == len(row["seconds_by_metric"]) == 27
    assert row["with_intervals_s"] > 0
    assert document["targets"][0]["measured"] is None  # a quick row answers nothing
    assert "MISSED" in capsys.readouterr().out
