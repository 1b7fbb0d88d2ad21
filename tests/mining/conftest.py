"""A small data folder of known splits, and logs against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mining_logs import Rows, of_split, write_log
from pertinent.data.build import build_dataset
from pertinent.data.config import DataConfig
from pertinent.mining.config import MineConfig
from pertinent.mining.queries import mine_queries
from pertinent.types import StageResult

Mine = Callable[..., tuple[StageResult, dict[str, pl.DataFrame]]]
N_ITEMS = 12


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: 12 items; 30 judged queries, of which "own 0" .. "own 2" have a split of the data set's own."""
    source = tmp_path_factory.mktemp("source")
    pl.DataFrame({"item_id": [f"i{k}" for k in range(N_ITEMS)], "title": ["t"] * N_ITEMS}).write_csv(
        source / "items.csv"
    )
    queries = [*of_split("train", 10), *of_split("dev", 10), *of_split("test", 10)]
    own = {"own 0": "train", "own 1": "dev", "own 2": "test"}
    rows = [
        {"query": query, "query_id": f"id of {query}", "item_id": f"i{k}", "grade": k * 2, "split": own.get(query)}
        for query in [*queries, *own]
        for k in range(2)
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_csv(source / "judgments.csv")
    out = tmp_path_factory.mktemp("data")
    build_dataset(DataConfig(path=source), out)
    return out


@pytest.fixture
def mine(data: Path, tmp_path: Path) -> Mine:
    """mine(log or rows, **config) -> the stage's result and its tables by name."""
    made: list[Path] = []

    def run(
        rows: Rows | Path | Sequence[Path], /, data_folder: Path | None = None, **config: Any
    ) -> tuple[StageResult, dict[str, pl.DataFrame]]:
        number = len(made)
        out = tmp_path / f"out{number}"
        out.mkdir()
        made.append(out)
        if isinstance(rows, Path):
            paths = [rows]
        elif rows and isinstance(rows[0], Path):
            paths = list(rows)
        else:
            paths = [write_log(rows, tmp_path / f"log{number}.parquet")]
        settings = config.pop("log", {})
        chosen = MineConfig.model_validate({"log": {"paths": paths, **settings}, "threads": 1, **config})
        result = mine_queries(chosen, data_folder or data, out, seed=0)
        assert sorted(file.name for file in out.iterdir()) == ["fields.parquet", "item_rates.parquet", "rates.parquet"]
        return result, {name: pl.read_parquet(out / f"{name}.parquet") for name in ("fields", "rates", "item_rates")}

    return run
