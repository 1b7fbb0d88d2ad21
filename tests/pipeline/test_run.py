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
from pertinent.errors import DataError
from pertinent.evaluation import compare
from pertinent.files import read_json
from pertinent.pipeline import STAGES, load_run_config, run_pipeline
from pertinent.pipeline.labelling import estimate_run
from pertinent.pipeline.lock import run_lock
from pertinent.types import Scale

COMMAND = [sys.executable, "-c", "from pertinent.cli import main; main()"]


# A run that ends itself by SIGKILL right after the n-th time that a file of this name is whole in a stage's working folder.
KILLED_RUN = """
import os, signal, sys
from pathlib import Path

stage, name, count, config = sys.argv[1:]
left, replace = int(count), os.replace

def killing(source, destination):
    global left
    replace(source, destination)
    path = Path(destination)
    if path.name == name and path.parent.name == f".{stage}.partial":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

os.replace = killing
sys.argv = ["pertinent", "run", config]
from pertinent.cli import main
main()
"""
# Where each stage is killed: half its files written, and in training after checkpoints and an epoch.
KILLS = {
    "data": ("judgments.parquet", 1),
    "text": ("items.parquet", 1),
    "teacher": ("history.json", 2),
    "labels": ("shard-00001.parquet", 1),
    "student": ("training.pt", 3),
    "evaluation": ("scores.parquet", 1),
}


def metrics_of(config: Path) -> bytes:
    folder = load_run_config(config).folder
    return (folder / "evaluation" / "metrics.json").read_bytes()


def finished_stages(folder: Path) -> dict[str, tuple[str, int]]:
    """The key and the time of change of each manifest that is there."""
    files = {stage: folder / stage / "manifest.json" for stage in STAGES}
    return {stage: (read_json(file)["key"], file.stat().st_mtime_ns) for stage, file in files.items() if file.is_file()}


def kill_in(stage: str, config: Path) -> str:
    """Start the run and have it killed inside a stage; returns its stderr."""
    name, count = KILLS[stage]
    command = [sys.executable, "-c", KILLED_RUN, stage, name, str(count), str(config)]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, f"{stage}: the run was not killed: {process.stderr[-2000:]}"
    return process.stderr


def test_the_whole_chain_runs_is_skipped_when_nothing_changed_and_learns(
    finished_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, folder = finished_run.outcome, finished_run.folder
    assert (folder / "report.html").stat().st_size > 10_000
    assert list(outcome["stages"]) == list(STAGES)
    assert not list(folder.glob(".*")), "no half-written folder is left"
    systems = outcome["metrics"]["systems"]
    assert outcome["metrics"]["system_order"] == ["random", "majority", "bm25", "embedding", "teacher", "student"]
    assert systems["student"]["auroc_3+"] > 0.75  # shared words decide the grade: an untrained student is at .5
    assert systems["majority"]["auroc_3+"] == 0.5
    assert outcome["seconds"] == pytest.approx(sum(manifest["seconds"] for manifest in outcome["stages"].values()))

    created = {stage: manifest["created_at"] for stage, manifest in outcome["stages"].items()}
    capsys.readouterr()
    again = run_pipeline(load_run_config(finished_run.config))
    assert {stage: manifest["created_at"] for stage, manifest in again["stages"].items()} == created
    assert capsys.readouterr().err.count("up to date, skipped") == len(STAGES)


def test_the_student_is_compared_on_the_same_resamples(finished_run: Any) -> None:
    metrics = finished_run.outcome["metrics"]
    scores = pl.read_parquet(finished_run.folder / "evaluation" / "scores.parquet")
    for document, parts in ((metrics, None), *((part, value) for value, part in metrics["slices"]["language"].items())):
        pairs = scores if parts is None else scores.filter(pl.col("language") == parts)
        for baseline in ("bm25", "embedding"):
            found = document["differences"]["student"][baseline]["auroc_4+"]
            systems = document["systems"]
            expected = systems["student"]["auroc_4+"] - systems[baseline]["auroc_4+"]
            assert found["difference"] == pytest.approx(expected)
            paired = compare(pairs, Scale(), "student", baseline, "auroc_4+", resamples=50)
            assert found["interval"] == pytest.approx(paired.interval)


def test_a_changed_section_redoes_its_stage_and_those_after_it_only(small_run: Path) -> None:
    first = run_pipeline(load_run_config(small_run), until="student")["stages"]
    changed = load_run_config(small_run, ["student.hidden=[16]"])
    second = run_pipeline(changed, until="student")["stages"]
    same = {stage: first[stage]["key"] == second[stage]["key"] for stage in first}
    assert same == {"data": True, "text": True, "teacher": True, "labels": True, "student": False}


def test_labels_out_of_date_are_a_cache_and_a_dry_run_tells_so(small_run: Path) -> None:
    run_pipeline(load_run_config(small_run), until="labels")
    more = load_run_config(small_run, ["labels.random_per_query=2"])
    first = pl.read_parquet(more.folder / "labels" / "shard-*.parquet")
    before = {file: file.stat().st_mtime_ns for file in (more.folder / "labels").iterdir()}
    told = estimate_run(more, engines=["local"])
    assert {file: file.stat().st_mtime_ns for file in (more.folder / "labels").iterdir()} == before
    second = run_pipeline(more, until="labels")["stages"]["labels"]["counts"]
    known = pl.read_parquet(more.folder / "labels" / "shard-*.parquet").join(first, on=["query", "item_id"], how="semi")
    assert 0 < second["cached"] == known.height < second["pairs"]
    assert (told["rows"], told["cached"]) == (second["pairs"], second["cached"])
    # Another engine would say the same: the stage is skipped.
    onward = load_run_config(small_run, ["labels.random_per_query=2", "labels.engine=ray", "labels.ray.cpus=2"])
    assert run_pipeline(onward, until="labels")["stages"]["labels"]["counts"] == second


def test_the_served_scores_equal_the_evaluated_ones(finished_run: Any) -> None:
    scores = pl.read_parquet(finished_run.folder / "evaluation" / "scores.parquet")
    served = open_bundle(finished_run.folder).score_pairs(scores.select("query", "item_id"))
    for k in range(1, 6):
        difference = np.abs(served[f"p_{k}"].to_numpy() - scores[f"student.p_{k}"].to_numpy())
        assert difference.max() <= 1e-6


def test_a_second_run_in_the_same_folder_is_refused(finished_run: Any) -> None:
    with run_lock(finished_run.folder), pytest.raises(DataError, match=f"found process {os.getpid()} at work"):
        run_pipeline(load_run_config(finished_run.config))


def test_a_run_killed_in_every_stage_gives_the_metrics_of_an_undisturbed_one(
    small_run: Path, finished_run: Any
) -> None:
    folder = load_run_config(small_run).folder
    done: dict[str, tuple[str, int]] = {}
    shards: dict[str, int] = {}
    for n, stage in enumerate(STAGES):
        told = kill_in(stage, small_run)
        if n:
            assert f"{STAGES[n - 1]}: continuing what was cut off" in told
        now = finished_stages(folder)
        assert list(now) == list(STAGES[:n])
        assert {name: now[name] for name in done} == done, "a finished stage was repeated"
        done = now
        if stage == "labels":
            shards = {shard.name: shard.stat().st_mtime_ns for shard in (folder / ".labels.partial").glob("shard-*")}
            assert len(shards) == 2
    subprocess.run([*COMMAND, "run", str(small_run)], check=True, capture_output=True)
    now = finished_stages(folder)
    assert {name: now[name] for name in done} == done, "a finished stage was repeated"
    assert {name: (folder / "labels" / name).stat().st_mtime_ns for name in shards} == shards
    assert metrics_of(small_run) == metrics_of(finished_run.config)
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_a_run_killed_at_random_moments_gives_the_same_metrics(small_run: Path, finished_run: Any) -> None:
    rng = random.Random(0)
    for wait in [rng.uniform(1.0, 9.0) for _ in range(10)]:
        process = subprocess.Popen(
            [*COMMAND, "run", str(small_run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(wait)
        process.kill()
        process.wait()
    subprocess.run([*COMMAND, "run", str(small_run)], check=True, capture_output=True)
    assert metrics_of(small_run) == metrics_of(finished_run.config)


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
