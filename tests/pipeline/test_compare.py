"""`pertinent teacher compare`: two small teachers on the same held-out pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pertinent.evaluation import compare
from pertinent.pipeline import load_run_config
from pertinent.pipeline.compare import compare_teachers
from pertinent.types import Scale


@pytest.mark.slow
def test_teachers_are_compared_with_tests_on_the_same_pairs(
    small_run: Path, settings: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    configs = []
    for name, epochs in (("short", 1), ("long", 3)):
        tree = settings()
        tree["name"], tree["teacher"]["epochs"] = name, epochs
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
        configs.append(load_run_config(file))
    found = compare_teachers(configs, tmp_path / "out")
    assert found["system_order"] == ["random", "majority", "short", "long"]
    assert found["correction"] == "holm"
    assert list(found["differences"]) == ["long"]
    paired = found["differences"]["long"]["auroc_3+"]
    scores = pl.read_parquet(tmp_path / "out" / "scores.parquet")
    alone = compare(scores, Scale(), "long", "short", "auroc_3+", resamples=50)
    assert paired["difference"] == alone.difference
    assert tuple(paired["interval"]) == alone.interval
    assert paired["p_value"] == alone.p_value == paired["p_adjusted"]
