from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import mine_speed
from common import ROOT
from pertinent.files import read_json


def test_the_targets_compare_the_medians() -> None:
    rows = {"mine": {"seconds_median": 12.0, "peak_gib": 1.5}, "bare": {"seconds_median": 10.0, "peak_gib": 2.0}}
    found = {target.name: (target.measured, target.met) for target in mine_speed.targets(rows)}
    assert list(found.values()) == [(1.2, True), (1.5, True), (0.2, True)]
    assert [target.measured for target in mine_speed.targets({"bare": rows["bare"]})] == [None, None, None]


def test_the_generated_log_is_seeded_and_of_the_told_size(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        mine_speed.write_log(tmp_path / name, 30_000)
    first, second = (pl.read_parquet(tmp_path / name / "*.parquet") for name in ("first", "second"))
    assert first.height == 30_000
    assert first.equals(second)
    shares = first["action"].value_counts(normalize=True).sort("proportion", descending=True)
    assert shares["action"].to_list() == ["impression", "click", "long_click", "save"]
    users = first.group_by("query").agg(pl.col("user").n_unique()).sort("user")["user"]
    assert users[-1] > 100 > 2 > users[0]  # a head and a tail


@pytest.mark.slow
def test_the_quick_form_writes_the_table(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "mine_speed.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PERTINENT_CACHE": str(tmp_path)})
    document = read_json(tmp_path / "mine_speed.json")
    assert [row["row"] for row in document["rows"]] == ["mine", "bare", "group-by"]
    assert document["rows"][0]["rates"] > 0
    assert len(document["targets"]) == 3
