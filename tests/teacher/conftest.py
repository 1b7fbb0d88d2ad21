"""Folders of the data and text stages with a few judged pairs, for training a teacher of two tiny layers."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pertinent.files import write_json

COLOURS = ("red", "blue", "green")
THINGS = ("sofa", "chair", "table", "lamp", "rug")


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, text): 15 items, 15 queries of 4 judged items each; the grade counts the words in common."""
    data, text = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("text")
    names = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
    items = pl.DataFrame({"item_id": [f"i{k:02d}" for k in range(15)], "title": names})
    items.write_parquet(data / "items.parquet")
    items.select("item_id", text="title: " + pl.col("title")).write_parquet(text / "items.parquet")
    rows = []
    for q, query in enumerate(names):
        for k in (q, (q + 1) % 15, (q + 4) % 15, (q + 7) % 15):
            grade = len(set(query.split()) & set(names[k].split()))
            split = "dev" if q % 4 == 3 else "train"
            mean = {0: 0.25, 1: 1.0, 2: 1.75}[grade]
            rows.append((f"q{q:02d}", query, f"i{k:02d}", grade, mean, 2, "en", split))
    columns = ["query_id", "query", "item_id", "grade", "grade_mean", "n_ratings", "language", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(data / "judgments.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en"], "attributes": []}
    write_json(data / "dataset.json", {**about, "scale": {"guidelines": ["bad", "fair", "good"]}})
    return data, text
