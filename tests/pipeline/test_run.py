from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
import yaml

from pertinent.bundle import open_bundle
from pertinent.files import read_json
from pertinent.pipeline import STAGES, load_run_config, run_pipeline

COMMAND = [sys.executable, "-c", "from pertinent.cli import main; main()"]


def metrics_of(config: Path) -> bytes:
    folder = load_run_config(config).folder
    return (folder / "evaluation" / "metrics.json").read_bytes()


def test_the_whole_chain_runs_is_skipped_when_nothing_changed_and_learns(
    small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run_pipeline(load_run_config(small_run))
    folder = Path(outcome["run"])
    assert (folder / "report.html").stat().st_size > 10_000
    assert list(outcome["stages"]) == list(STAGES)
    assert not list(folder.glob(".*")), "no half-written folder is left"
    systems = outcome["metrics"]["systems"]
    assert outcome["metrics"]["system_order"] == ["random", "majority", "bm25", "embedding", "teacher", "student"]
    assert systems["student"]["auroc_3+"] > 0.75  # shared words decide the grade: an untrained student is at .5
    assert systems["majority"]["auroc_3+"] == 0.5

    created = {stage: manifest["created_at"] for stage, manifest in outcome["stages"].items()}
    capsys.readouterr()
    again = run_pipeline(load_run_config(small_run))
    assert {stage: manifest["created_at"] for stage, manifest in again["stages"].items()} == created
    assert capsys.readouterr().err.count("up to date, skipped") == len(STAGES)


def test_a_changed_section_redoes_its_stage_and_those_after_it_only(small_run: Path) -> None:
    first = run_pipeline(load_run_config(small_run), until="student")["stages"]
    changed = load_run_config(small_run, ["student.hidden=[16]"])
    second = run_pipeline(changed, until="student")["stages"]
    same = {stage: first[stage]["key"] == second[stage]["key"] for stage in first}
    assert same == {"data": True, "text": True, "teacher": True, "labels": True, "student": False}


def test_the_served_scores_equal_the_evaluated_ones(small_run: Path) -> None:
    folder = Path(run_pipeline(load_run_config(small_run))["run"])
    scores = pl.read_parquet(folder / "evaluation" / "scores.parquet")
    served = open_bundle(folder).score_pairs(scores.select("query", "item_id"))
    for k in range(1, 6):
        difference = np.abs(served[f"p_{k}"].to_numpy() - scores[f"student.p_{k}"].to_numpy())
        assert difference.max() <= 1e-6


def killed_and_resumed(config: Path, waits: list[float]) -> None:
    """Start the run, kill it after each wait, start it again; the last start is left to finish."""
    for wait in waits:
        process = subprocess.Popen([*COMMAND, "run", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*COMMAND, "run", str(config)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_in(stage: str, config: Path) -> bool:
    """Start the run and kill it as soon as the stage's working folder holds something; True if it was caught there."""
    folder = load_run_config(config).folder
    process = subprocess.Popen([*COMMAND, "run", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = folder / f".{stage}.partial"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if partial.is_dir() and (stage in ("data", "text") or len(list(partial.iterdir())) > 1):
            break
        time.sleep(0.002)
    caught = process.poll() is None and not (folder / stage).exists()
    process.kill()
    process.wait()
    return caught


def test_a_run_killed_in_every_stage_gives_the_metrics_of_an_undisturbed_one(small_run: Path, tmp_path: Path) -> None:
    undisturbed = load_run_config(small_run, [f"output={tmp_path / 'undisturbed'}"])
    run_pipeline(undisturbed)
    caught = {stage: kill_in(stage, small_run) for stage in STAGES}
    assert sum(caught.values()) >= 4, caught  # the quickest stages may be over before the kill
    folder = load_run_config(small_run).folder
    finished = {stage: read_json(folder / stage / "manifest.json")["created_at"] for stage in STAGES[:3]}
    subprocess.run([*COMMAND, "run", str(small_run)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert metrics_of(small_run) == (undisturbed.folder / "evaluation" / "metrics.json").read_bytes()
    for stage, created in finished.items():
        assert read_json(folder / stage / "manifest.json")["created_at"] == created, f"{stage} was repeated"


@pytest.mark.slow
def test_a_run_killed_at_random_moments_gives_the_same_metrics(small_run: Path, tmp_path: Path) -> None:
    undisturbed = load_run_config(small_run, [f"output={tmp_path / 'undisturbed'}"])
    run_pipeline(undisturbed)
    rng = random.Random(0)
    killed_and_resumed(small_run, [rng.uniform(1.0, 9.0) for _ in range(10)])
    assert metrics_of(small_run) == (undisturbed.folder / "evaluation" / "metrics.json").read_bytes()


def write_messy_csv(folder: Path, settings: Callable[..., dict[str, Any]]) -> Path:
    """A shop's export: semicolons, a byte order mark, a line break in a quoted field, grades 1-4, three bad rows."""
    source = folder / "source"
    source.mkdir()
    rows = ["sku;name;details;colour"]
    things = ("sofa", "chair", "table", "lamp", "rug", "dress")
    colours = ("red", "blue")
    rows += [
        f'{i};{colours[i % 2]} {things[i % 6]};"large {things[i % 6]}\nmade of oak";{colours[i % 2]}' for i in range(60)
    ]
    (source / "catalogue.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    lines = ["search;product;rating"]
    for q in range(48):
        thing, colour = things[q % 6], ("red", "blue", "green", "oak")[q % 4]
        for k in range(5):
            sku = (q * 5 + k * 7) % 60
            lines.append(f"{colour} {thing} {q // 12};{sku};{4 if sku % 6 == q % 6 else 1 + (sku + q) % 2}")
    lines += ["red sofa 0;3;9", "red sofa 0;999;2", ";3;2"]
    (source / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {
        "items": {"file": "catalogue.csv", "columns": {"item_id": "sku", "title": "name", "description": "details"}},
        "judgments": {
            "file": "ratings.csv",
            "columns": {"query": "search", "item_id": "product", "grade": "rating"},
            "grades": [1, 2, 3, 4],
        },
    }
    file = folder / "shop.yaml"
    file.write_text(yaml.safe_dump(settings(data=data)), encoding="utf-8")
    return file


def test_a_messy_csv_catalogue_on_another_scale_runs_end_to_end(
    tmp_path: Path, settings: Callable[..., dict[str, Any]]
) -> None:
    outcome = run_pipeline(load_run_config(write_messy_csv(tmp_path, settings)))
    data = outcome["stages"]["data"]
    assert outcome["metrics"]["n_grades"] == 4
    assert sum(data["quarantined"].values()) == 3, data["quarantined"]  # grade 9, an unknown product, no query
    assert outcome["metrics"]["systems"]["student"]["auroc_3+"] is not None
    quarantine = pl.read_parquet(Path(outcome["run"]) / "data" / "quarantine.parquet")
    assert set(quarantine["file"].to_list()) == {"ratings.csv"}
    assert orjson.loads(quarantine["row"][0])
