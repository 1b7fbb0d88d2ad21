"""Slice columns from the items and the log, the agreement of raters, and what the evaluation stage writes of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from pertinent.data.build import Dataset
from pertinent.errors import DataError
from pertinent.evaluation import evaluate
from pertinent.pipeline.agreement import with_agreement
from pertinent.pipeline.slicing import with_slice_columns
from pertinent.types import Scale

SCORES = pl.DataFrame(
    {"query_id": ["a", "a", "b"], "query": ["x", "x", "y"], "item_id": ["1", "2", "1"], "language": ["en"] * 3}
)


def dataset(log: pl.DataFrame | None = None) -> Dataset:
    items = pl.DataFrame({"item_id": ["1", "2"], "title": ["t", "u"], "captions": [["c"], []], "brand": ["acme", None]})
    return Dataset(
        "x", items, pl.DataFrame(), None if log is None else log.lazy(), Scale(), ("brand",), ("en",), False, "", ""
    )


def test_columns_come_from_the_pairs_the_items_and_the_log() -> None:
    log = pl.DataFrame({"query_id": ["a", "a", "a", "c"], "item_id": ["1", "1", "2", "2"]})
    wanted = ["language", "query_words", "item_fields", "brand", "query_popularity", "item_popularity"]
    found = with_slice_columns(SCORES, dataset(log), wanted)
    assert found["item_fields"].to_list() == ["title+captions+brand", "title", "title+captions+brand"]
    assert found["brand"].to_list() == ["acme", None, "acme"]
    assert found["query_popularity"].to_list() == ["head", "head", "unseen"]
    assert set(found["item_popularity"]) == {"head"}
    assert found["query_id"].to_list() == ["a", "a", "b"]


def test_a_column_that_is_nowhere_is_one_line() -> None:
    with pytest.raises(
        DataError, match="expected columns of the pairs or the items, found colour; known: brand, captions"
    ):
        with_slice_columns(SCORES, dataset(), ["colour"])
    with pytest.raises(DataError, match="query_popularity is counted from the log, and the data set has none"):
        with_slice_columns(SCORES, dataset(), ["query_popularity"])


def scored(n: int = 120) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    grades = generator.integers(0, 5, n)
    return pl.DataFrame(
        {
            "query_id": [f"q{i // 4:02d}" for i in range(n)],
            "query": "x",
            "item_id": [f"i{i}" for i in range(n)],
            "grade": grades.astype(np.int16),
            "language": "en",
            "split": ["dev" if (i // 4) % 2 else "test" for i in range(n)],
            "student": grades + generator.normal(size=n),
        }
    )


def test_agreement_is_of_the_test_pairs_that_were_rated_twice() -> None:
    frame = scored()
    counts = [[int(k == grade) * 2 for k in range(5)] if i % 3 else None for i, grade in enumerate(frame["grade"])]
    judgments = frame.select(
        "query_id", "item_id", pl.Series("grade_counts", counts, dtype=pl.List(pl.Int32))
    ).reverse()
    metrics = evaluate(frame, Scale(), systems=["student"], resamples=30).metrics
    found = with_agreement(metrics, frame, judgments, Scale(), systems=["student"])["raters"]
    expected = frame.with_row_index().filter((pl.col("split") == "test") & (pl.col("index") % 3 > 0)).height
    assert found["n_pairs"] == expected
    assert found["alpha"]["ordinal"]["value"] == 1  # every pair's two ratings agree, and are its grade
    against = found["against_one_rating"]
    assert against["another rating"]["accuracy"]["value"] == 1
    assert 0 < against["student"]["accuracy"]["value"] < 1
    none = judgments.with_columns(grade_counts=pl.lit(None, pl.List(pl.Int32)))
    assert with_agreement(metrics, frame, none, Scale(), systems=["student"])["raters"] is None


def test_the_stage_tells_its_tests_and_lists_judgments_to_review(finished_run: Any) -> None:
    folder: Path = finished_run.folder / "evaluation"
    metrics = orjson.loads((folder / "metrics.json").read_bytes())
    paired = metrics["differences"]["student"]["bm25"]["auroc_4+"]
    assert 0 < paired["p_value"] <= paired["p_adjusted"] <= 1
    assert metrics["correction"] == "holm"
    assert metrics["raters"] is None
    rows = list(csv.DictReader((folder / "suspects.csv").read_text(encoding="utf-8").splitlines()))
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    assert len(rows) == manifest["counts"]["suspected_judgments"]
    assert all(row["split"] in ("dev", "test") for row in rows)
