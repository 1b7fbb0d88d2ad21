from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.bundle import open_bundle
from pertinent.bundle.scorer import Scorer
from pertinent.files import read_json
from pertinent.student.importance import permutation_importance
from pertinent.types import StageResult


class OneFeature(Scorer):
    """A scorer whose probabilities follow one feature alone."""

    def run(self, query: Any, items: Any, features: Any) -> Any:
        share = np.clip(features[:, self.feature_names.index("title.matched")], 0, 1)
        return np.stack([1 - share, share / 2, share / 2], axis=1).astype(np.float32)


@pytest.fixture
def dev(stages: dict[str, Path]) -> pl.DataFrame:
    return pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "dev")


def test_only_the_feature_that_is_used_matters(student: tuple[Path, StageResult], dev: pl.DataFrame) -> None:
    scorer = OneFeature(**vars(open_bundle(student[0])))
    first, *rest = permutation_importance(scorer, dev, seed=0)
    assert first["feature"] == "title.matched"
    assert first["auroc_drop"] > 0.3  # the grade is the number of words shared: shuffled, the AUROC falls to a half
    assert {row["auroc_drop"] for row in rest} == {0.0}
    assert {row["feature"] for row in rest} == {"vectors", *scorer.feature_names} - {"title.matched"}


def test_the_stage_writes_the_importance_of_every_feature(student: tuple[Path, StageResult], dev: pl.DataFrame) -> None:
    written = read_json(student[0] / "importance.json")
    assert written == permutation_importance(open_bundle(student[0]), dev, seed=2)
    drops = [row["auroc_drop"] for row in written]
    assert drops == sorted(drops, reverse=True)
    assert drops[0] > 0
