"""Units of a stage's work: a Parquet file each, whole or not there, so that a killed stage goes on after the last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_parquet
from pertinent.progress import say


def unit_files(out: Path, n_units: int, name: str = "unit") -> list[Path]:
    """out/NAME-00000.parquet and so on. What a kill cut off in the midst of writing is removed."""
    for stale in out.glob(".*.partial"):
        stale.unlink()
    return [out / f"{name}-{index:05d}.parquet" for index in range(n_units)]


def is_whole(unit: Path, schema: Mapping[str, Any] | None, stage: str) -> bool:
    """Whether the unit is there with these columns (None: any); of a damaged one the user is told, under the stage's name."""
    if not unit.exists():
        return False
    try:
        found = read_parquet(unit).schema
    except DataError:
        say(f"{stage}: {unit.name} is damaged and made again")
        return False
    return schema is None or found == pl.Schema(schema)
