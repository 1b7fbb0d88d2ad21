"""An easy problem for a student, as the folders that its stage reads, and the bundle that it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.files import write_json
from pertinent.student.config import StudentConfig
from pertinent.student.train import train_student
from pertinent.types import StageResult

COLOURS = ("red", "blue", "green", "oak", "velvet")
THINGS = ("sofa", "chair", "table", "lamp", "rug", "coat", "dress", "shirt", "cake", "soup", "pasta", "bracket")
NAMES = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]  # 60 items
CONFIG = StudentConfig(dimensions=16, hidden=(16,), epochs=4, batch_size=64, dropout=0.1, probe_pairs=20)
SEED = 2


def grade_of(query: str, name: str) -> int:
    """0 for nothing in common, 1 for a word, 2 for both."""
    return len(set(query.split()) & set(name.split()))


def write_stages(root: Path, tokenizer_file: Path) -> dict[str, Path]:
    """data/, text/ and labels/ for 60 items and 40 queries of 12 items each; a third of the queries is dev."""
    folders = {name: root / name for name in ("data", "text", "labels")}
    for folder in folders.values():
        folder.mkdir()
    rng = np.random.default_rng(0)
    queries = [NAMES[i] for i in np.sort(rng.permutation(60)[:40])]
    items = pl.DataFrame({"item_id": [f"i{k:02d}" for k in range(60)], "title": NAMES})
    items = items.with_columns(body=pl.lit("modern rustic " * 2) + pl.col("title"))
    items.select("item_id", "title", description="body").write_parquet(folders["data"] / "items.parquet")
    text = items.with_columns(text="title: " + pl.col("title") + " | description: " + pl.col("body"))
    text.write_parquet(folders["text"] / "items.parquet")
    judgments, labels = [], []
    for q, query in enumerate(queries):
        alike = [k for k, name in enumerate(NAMES) if grade_of(query, name)]
        for k in dict.fromkeys([*rng.permutation(alike)[:6], NAMES.index(query), *rng.permutation(60)[:5]]):
            grade = grade_of(query, NAMES[k])
            split = "dev" if q % 3 == 2 else "train"
            judgments.append((f"q{q:02d}", query, f"i{k:02d}", grade, float(grade), 1, "en", split))
            if split == "train":
                probs = np.full(3, 0.05)
                probs[grade] = 0.9
                labels.append((query, f"i{k:02d}", *probs.tolist()))
    columns = ["query_id", "query", "item_id", "grade", "grade_mean", "n_ratings", "language", "split"]
    pl.DataFrame(judgments, schema=columns, orient="row").write_parquet(folders["data"] / "judgments.parquet")
    about = {
        "name": "easy",
        "generated": True,
        "note": "made in a test",
        "licence": "",
        "languages": [],
        "attributes": [],
    }
    write_json(folders["data"] / "dataset.json", {**about, "scale": {"guidelines": ["bad", "fair", "good"]}})
    table = pl.DataFrame(labels, schema=["query", "item_id", "p_1", "p_2", "p_3"], orient="row")
    half = table.height // 2
    table[:half].write_parquet(folders["labels"] / "shard-00000.parquet")
    table[half:].write_parquet(folders["labels"] / "shard-00001.parquet")
    shutil.copyfile(tokenizer_file, folders["labels"] / "tokenizer.json")
    vectors = np.random.default_rng(1).normal(size=(200, 128)) / 128**0.5
    np.save(folders["labels"] / "token_vectors.npy", vectors.astype(np.float16))
    return folders


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> dict[str, Path]:
    return write_stages(tmp_path_factory.mktemp("stages"), tiny_backbone / "tokenizer.json")


@pytest.fixture(scope="session")
def student(stages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageResult]:
    """The bundle of an undisturbed training, and the stage's result."""
    out = tmp_path_factory.mktemp("student")
    return out, train_student(CONFIG, **stages, out=out, seed=SEED)
