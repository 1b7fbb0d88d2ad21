from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.files import write_json
from pertinent.types import Scale
from pool import JUDGED, Pool


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Judged pairs and part-00 are labelled; part-01 was cut off."""
    monkeypatch.setenv("PERTINENT_CACHE", str(tmp_path))
    root = tmp_path / "benchmarks" / "pool"
    (root / "pairs").mkdir(parents=True)
    for name, items in ((JUDGED, "ab"), ("part-00", "dcfe"), ("part-01", "gh")):
        pairs = pl.DataFrame({"query": ["q"] * len(items), "item_id": list(items)})
        pairs.write_parquet(root / "pairs" / f"{name}.parquet")
        (root / name).mkdir()
        labels = pairs.sort("item_id").with_columns(p_1=pl.lit(0.25), p_2=pl.lit(0.75), source=pl.lit("bm25"))
        labels[:2].write_parquet(root / name / "shard-00000.parquet")
        if name != "part-01":
            labels[2:].write_parquet(root / name / "shard-00001.parquet")
            write_json(root / name / "manifest.json", {"key": name})
    scale = SimpleNamespace(dataset=SimpleNamespace(scale=Scale(("bad", "good"))))
    found = Pool(cast(Any, scale))
    monkeypatch.setattr(Pool, "part", lambda self, name: root / name)
    return found


def test_a_smaller_pool_is_the_beginning_of_a_larger_one_in_the_order_of_its_pairs(pool: Pool) -> None:
    assert pool.finished() == (JUDGED, "part-00")
    assert pool.labels()["item_id"].to_list() == list("dcfe")
    assert pool.labels(2).rows() == [("q", "d", 0.25, 0.75, "bm25"), ("q", "c", 0.25, 0.75, "bm25")]
    assert pool.judged_labels()["item_id"].to_list() == list("ab")


def test_more_than_is_labelled_is_refused(pool: Pool) -> None:
    with pytest.raises(DataError, match=r"pool: expected 5 labelled pairs, found 4: run benchmarks/pool.py"):
        pool.labels(5)


def test_a_best_teacher_that_is_not_trained_is_named(pool: Pool) -> None:
    with pytest.raises(DataError, match=r"best-e5-0: expected a trained teacher: run benchmarks/teacher_models.py"):
        pool.teacher()
