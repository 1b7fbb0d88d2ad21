"""What each label counts in the student's training: nothing where the teacher is unsure, and alike over grades and languages.

No label is dropped: one of weight 0 stays in its shard, where a later run finds it as cached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.files import read_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.plan import write_whole

WEIGHT = "weight"
Cell = tuple[Any, ...]


def weigh_labels(folder: Path, names: Sequence[str], config: LabelsConfig) -> dict[str, Any]:
    """Write the column weight (float32) into every shard of ``folder``; returns what a manifest tells of it.

    names: p_1..p_n. A label whose largest probability is under config.min_confidence weighs 0. Of the others, each cell
    of config.balance (likeliest grade, language, or both) weighs the same in all, up to config.max_weight a label before
    the weights are scaled to a mean of 1. Shards are read twice, one at a time, and each is replaced whole: cut off, the
    next start does it all again and gets the same. Returns {"filtered": labels of weight 0, "effective_pairs":
    (sum w)^2 / sum w^2, "weights": {cell: weight}}. Raises DataError where a shard cannot be written.
    """
    shards = sorted(folder.glob("shard-*.parquet"))
    sizes: Counter[Cell] = Counter()
    n_pairs = 0
    for labels in (read_parquet(shard) for shard in shards):
        n_pairs += labels.height
        sizes.update(_counted(_with_cells(labels, names, config), config))
    weights = cell_weights(sizes, config.max_weight)
    for shard in shards:
        labels = read_parquet(shard).drop(WEIGHT, strict=False)
        write_whole(shard, _weighted(labels, names, config, weights))
    kept = sizes.total()
    squares = sum(n * weights[cell] ** 2 for cell, n in sizes.items())
    shown = {" | ".join(_shown(config, cell)) or "all": round(weights[cell], 4) for cell in sorted(sizes)}
    return {"filtered": n_pairs - kept, "effective_pairs": round(kept**2 / squares) if kept else 0, "weights": shown}


def cell_weights(sizes: Counter[Cell], max_weight: float) -> dict[Cell, float]:
    """The weight of a label of each cell: N / (cells * its size), at most max_weight, and then of mean 1 over the N labels."""
    total, n_cells = sizes.total(), len(sizes)
    raw = {cell: min(total / (n_cells * n), max_weight) for cell, n in sizes.items()}
    mean = sum(raw[cell] * n for cell, n in sizes.items()) / total if total else 1.0
    return {cell: value / mean for cell, value in raw.items()}


def _with_cells(labels: pl.DataFrame, names: Sequence[str], config: LabelsConfig) -> pl.DataFrame:
    """The labels with sure, and a column a cell's part: cell_grade (stored), cell_language ("und" where there is none)."""
    sure = pl.lit(True)
    if config.min_confidence is not None:
        sure = pl.max_horizontal(names) >= config.min_confidence
    grade = pl.concat_list(names).list.arg_max().cast(pl.Int64)
    parts = {"grade": grade, "language": pl.col("language").fill_null("und")}
    return labels.with_columns(sure.alias("sure"), *[parts[name].alias(f"cell_{name}") for name in config.balance])


def _counted(labels: pl.DataFrame, config: LabelsConfig) -> Iterator[Cell]:
    columns = [f"cell_{name}" for name in config.balance]
    sure = labels.filter("sure")
    return iter(sure.select(columns).iter_rows()) if columns else iter([()] * sure.height)


def _weighted(
    labels: pl.DataFrame, names: Sequence[str], config: LabelsConfig, weights: dict[Cell, float]
) -> pl.DataFrame:
    with_cells = _with_cells(labels, names, config)
    columns = [f"cell_{name}" for name in config.balance]
    cells = with_cells.select(columns).iter_rows() if columns else iter([()] * labels.height)
    found = [weights[cell] if sure else 0.0 for cell, sure in zip(cells, with_cells["sure"], strict=True)]
    return labels.with_columns(pl.Series(WEIGHT, found, dtype=pl.Float32))


def _shown(config: LabelsConfig, cell: Cell) -> list[str]:
    return [
        f"L{value + 1}" if name == "grade" else str(value) for name, value in zip(config.balance, cell, strict=True)
    ]
