from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import label_throughput
import sample_speed
from common import ROOT
from pertinent.files import read_json


def test_the_targets_of_throughput_compare_the_rows() -> None:
    rows = {
        "local": {"ratio": 0.95},
        "predict": {"ratio": 2.5},
        "ray": {"ratio": 0.8},
        "memory/200k": {"peak_gib": 0.5},
        "memory/2M": {"peak_gib": 0.51},
        "dry-run/local": {"ratio": 1.1},
        "dry-run/ray": {"ratio": 0.8},
    }
    found = [(target.measured, target.met) for target in label_throughput.targets(rows)]
    assert found == [(0.0526, True), (2.5, True), (0.8, False), (1.02, True), (0.2, False)]
    del rows["dry-run/ray"], rows["memory/2M"]
    assert [target.measured for target in label_throughput.targets(rows)][3:] == [None, 0.1]
    assert [target.measured for target in label_throughput.targets({})] == [None] * 5


def test_the_targets_of_sampling_compare_the_medians() -> None:
    rows = {"sample": {"seconds_median": 12.0, "peak_gib": 3.5}, "bare": {"seconds_median": 10.0, "peak_gib": 2.0}}
    assert [(target.measured, target.met) for target in sample_speed.targets(rows)] == [(1.2, True), (3.5, True)]
    assert [target.measured for target in sample_speed.targets({"bare": rows["bare"]})] == [None, None]


@pytest.mark.slow
def test_sampling_and_the_bare_sql_draw_the_same_number(tmp_path: Path) -> None:
    document = quick("sample_speed", tmp_path)
    assert [row["row"] for row in document["rows"]] == ["sample", "bare"]
    assert document["rows"][0]["pairs"] == document["rows"][1]["pairs"] == 1_200


@pytest.mark.slow
def test_the_quick_form_of_throughput_without_data_of_others(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    document = quick("label_throughput", tmp_path, "--rows", "memory/200k")
    (row,) = document["rows"]
    assert row["n_pairs"] == 2_000
    assert 0 < row["peak_gib"] < 4
    assert row["ray_gib"] > 0


def quick(benchmark: str, out: Path, *more: str) -> dict:  # type: ignore[type-arg]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{benchmark}.py"), "--quick", "--out", str(out), *more]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PERTINENT_CACHE": str(out)})
    return read_json(out / f"{benchmark}.json")  # type: ignore[no-any-return]
