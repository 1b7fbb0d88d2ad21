"""The quick form of benchmarks/serving.py, as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import ROOT
from pertinent.files import read_json
from redis_servers import COMMAND, MISSING


@pytest.mark.slow
@pytest.mark.parametrize("store", ["mmap", "redis"])
def test_the_quick_form_measures_every_part_of_a_row(bundles: tuple[Path, Path], tmp_path: Path, store: str) -> None:
    if store == "redis" and COMMAND is None:
        pytest.skip(MISSING)
    options = ["--quick", "--rows", f"{store}-100-1", "--bundle", str(bundles[0]), "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(ROOT / "benchmarks" / "serving.py"), *options]
    subprocess.run(command, env=environment, check=True, timeout=300)
    document = read_json(tmp_path / "serving.json")
    (row,) = document["rows"]
    assert len(document["targets"]) == 5
    assert row["quiet_failed"] == 0
    assert row["quiet_answered_per_s"] > 0
    assert row["quiet_p50_ms"] > row["quiet_network_p50_ms"] > 0
    assert row["store"] == store
    assert row["quiet_store_p50_ms"] > 0
    assert row["store_bytes_per_item"] > 100
    assert row["http_adds_p50_ms"] == pytest.approx(row["quiet_p50_ms"] - row["in_process_p50_ms"], abs=0.01)
