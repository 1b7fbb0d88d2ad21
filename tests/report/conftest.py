"""A small run folder with made-up scores: three languages, six systems, two trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.evaluation import evaluate, write_evaluation
from pertinent.evaluation.fidelity import with_fidelity
from pertinent.files import write_json, write_parquet
from pertinent.pipeline.agreement import with_agreement
from pertinent.pipeline.differences import with_differences
from pertinent.types import Scale

SYSTEMS = ("random", "majority", "bm25", "embedding", "teacher", "student")
WORDS = {
    "en": ["rain shower head", "desk", "oak bookcase with glass doors", "paint", "blue wool rug 5 x 8 ft"],
    "ar": ["مكتب خشبي صغير", "سجادة زرقاء", "طاولة"],
    "ja": ["木製の本棚", "青いラグ", "シャワーヘッド"],
}
NOISE = {"bm25": 2.4, "embedding": 2.0, "teacher": 0.8, "student": 1.1}


def made_up_scores(n_queries: int = 90, n_grades: int = 5, seed: int = 7) -> pl.DataFrame:
    """(pairs, columns) as evaluation/scores.parquet; a third of the queries is dev."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for q in range(n_queries):
        language = "en" if q % 10 < 6 else "ar" if q % 10 < 9 else "ja"
        query = WORDS[language][q % len(WORDS[language])]
        for i in range(int(rng.integers(3, 15))):
            grade = int(rng.integers(0, n_grades))
            row: dict[str, Any] = {"query_id": f"q{q:03d}", "query": query, "item_id": f"i{q:03d}-{i}", "grade": grade}
            row |= {"language": language, "split": "dev" if q % 3 == 0 else "test", "majority": 1.0}
            row["random"] = float(rng.random())
            for system, noise in NOISE.items():
                seen = grade + rng.normal(0, noise)
                row[system] = seen
                if system in ("teacher", "student"):
                    logits = -((np.arange(n_grades) - seen) ** 2) / 2
                    probs = np.exp(logits) / np.exp(logits).sum()
                    row |= {f"{system}.p_{k + 1}": float(p) for k, p in enumerate(probs)}
                    row[system] = float(probs @ np.arange(n_grades))
            rows.append(row)
    return pl.DataFrame(rows)


def made_up_ratings(scores: pl.DataFrame, n_grades: int) -> pl.DataFrame:
    """grade_counts as in data/judgments.parquet: three ratings of every other pair, two of which are the grade."""
    counts = [
        [2 * (k == grade) + (k == max(grade - 1, 0)) for k in range(n_grades)] if row % 2 else None
        for row, grade in enumerate(scores["grade"])
    ]
    return scores.select("query_id", "item_id", pl.Series("grade_counts", counts, dtype=pl.List(pl.Int32)))


def manifest(stage: str, **more: Any) -> dict[str, Any]:
    """A manifest.json as the pipeline writes it."""
    return {
        "stage": stage,
        "key": "0123456789abcdef",
        "config": {"name": "demo", "max_tokens": 64, "fields": ["title", "description"], "loss": {"kind": "soft"}},
        "seed": 13,
        "inputs": {"items": "ab" * 32},
        "package_version": "0.1.0",
        "counts": {"n_pairs": 12345, "split": {"train": 900, "test": 120}},
        "quarantined": {},
        "warnings": [],
        "seconds": 83.4,
        "created_at": "2026-01-02T03:04:05+00:00",
    } | more


def write_run(
    folder: Path, *, n_grades: int = 5, n_queries: int = 90, title: str = "A walnut desk & <b>chair</b>"
) -> Path:
    """Write the made-up run into ``folder`` and return it."""
    scores = made_up_scores(n_queries, n_grades)
    for stage in ("data", "text", "teacher", "labels", "student", "evaluation"):
        (folder / stage).mkdir(parents=True)
        more = {"counts": {"bm25_fields": "title+body"}} if stage == "evaluation" else {}
        write_json(folder / stage / "manifest.json", manifest(stage, **more))
    quarantined = {"grade off the scale": 3, "unknown item": 11}
    write_json(
        folder / "data" / "manifest.json", manifest("data", quarantined=quarantined, warnings=["2 queries were merged"])
    )
    guidelines = list(Scale.of_size(n_grades).guidelines)
    dataset = {"name": "Pinboard", "generated": True, "note": "Made by a program.", "licence": "Apache-2.0"}
    write_json(
        folder / "data" / "dataset.json",
        dataset | {"languages": ["en", "ar", "ja"], "scale": {"guidelines": guidelines}},
    )
    titles = [f"{title} {item}" for item in scores["item_id"]]
    write_parquet(folder / "data" / "items.parquet", pl.DataFrame({"item_id": scores["item_id"], "title": titles}))
    write_parquet(folder / "evaluation" / "scores.parquet", scores)
    scale = Scale.of_size(n_grades)
    measured = evaluate(scores, scale, systems=SYSTEMS, resamples=60)
    metrics = with_differences(measured.metrics, scores, scale)
    metrics = with_agreement(metrics, scores, made_up_ratings(scores, n_grades), scale, systems=SYSTEMS)
    metrics = with_fidelity(metrics, scores, scale)
    write_evaluation(dataclasses.replace(measured, metrics=metrics), folder / "evaluation")
    drops = [("vectors", 0.12), ("title.bm25", 0.034), ("body.<bm25>", 0.0), ("title.phrase", -0.01)]
    importance = [{"feature": name, "auroc_drop": drop} for name, drop in drops]
    write_json(folder / "student" / "importance.json", importance)
    steps = range(1, 41)
    history: list[dict[str, Any]] = [{"step": 10 * s, "epoch": s / 20, "loss": 1.6 / s**0.3} for s in steps]
    history[19] |= {"dev_loss": 0.9, "dev_auroc_4+": 0.68}
    history[39] |= {"dev_loss": 0.8, "dev_auroc_4+": 0.71}
    write_json(folder / "teacher" / "history.json", history)
    write_json(folder / "student" / "history.json", history[::4])
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``write_run`` into a fresh folder named demo."""
    return lambda **options: write_run(tmp_path / "demo", **options)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One made-up run for the tests that only read it."""
    return write_run(tmp_path_factory.mktemp("runs") / "demo")
