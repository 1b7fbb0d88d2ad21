"""Engagement features from the mining stage's rates, and a catalogue's own columns, as sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import ConfigError, DataError
from pertinent.features.declare import FeatureSpec
from pertinent.features.side import LEAST_RATE, ItemColumns
from pertinent.files import read_parquet
from pertinent.text.sources import SERVED

ITEM_RATES = "item_rates.parquet"  # of `pertinent.mining.rates`, which a server has no need of


def item_engagement(mined: Path, ids: Sequence[str]) -> ItemColumns:
    """Log of each item's smoothed rate, and log(1 + impressions), in every version of item_rates.parquet.

    An item that the log never showed has the mean log rate of the version's items and no impressions.
    """
    rates = read_parquet(mined / ITEM_RATES, ["item_id", "text_version", "impressions", "rate"])
    served = rates.filter(pl.col("text_version") == SERVED)
    if not served["rate"].drop_nulls().len():
        raise DataError(f"{mined / ITEM_RATES}: expected rates of text_version {SERVED}, found none")
    tables, defaults = {}, {}
    for (version,), part in rates.group_by(["text_version"]):
        found = pl.DataFrame({"item_id": ids}).join(part, on="item_id", how="left", maintain_order="left")
        logs = np.log(np.maximum(found["rate"].cast(pl.Float64).fill_null(np.nan).to_numpy(), LEAST_RATE))
        missing = np.isnan(logs)
        defaults[version] = float(logs[~missing].mean()) if (~missing).any() else float(np.log(LEAST_RATE))
        logs[missing] = defaults[version]
        impressions = np.log1p(found["impressions"].fill_null(0).to_numpy().astype(np.float64))
        tables[int(str(version))] = np.stack([logs, impressions], axis=1).astype(np.float32)
    specs = (
        FeatureSpec("engagement.item_log_rate", "item", ITEM_RATES, defaults[SERVED]),
        FeatureSpec("engagement.item_log_impressions", "item", ITEM_RATES),
    )
    return ItemColumns(specs, tables)


def passthrough(items: pl.DataFrame, ids: Sequence[str], names: Sequence[str]) -> ItemColumns:
    """Numeric and vector columns of the items as they are; a missing number is the median, a missing vector zeros.

    items: item_id and the columns. Raises ConfigError for a column that is not there or holds no numbers.
    """
    ordered = pl.DataFrame({"item_id": ids}).join(items, on="item_id", how="left", maintain_order="left")
    specs: list[FeatureSpec] = []
    columns: list[NDArray[np.float64]] = []
    for name in names:
        if name not in items.columns or name == "item_id":
            raise ConfigError(f"student.features.columns: expected columns of items.parquet, found no {name}")
        column = ordered[name]
        if column.dtype.is_numeric() or column.dtype == pl.Boolean:
            values = column.cast(pl.Float64).fill_nan(None)
            median = values.median()
            default = float(median) if isinstance(median, int | float) else 0.0
            columns.append(values.fill_null(default).to_numpy())
            specs.append(FeatureSpec(f"column.{name}", "item", name, default))
        elif isinstance(column.dtype, pl.List | pl.Array):
            matrix = _matrix(column, name)
            columns += list(matrix.T)
            specs += [FeatureSpec(f"column.{name}.{k}", "item", name) for k in range(matrix.shape[1])]
        else:
            raise ConfigError(f"student.features.columns: {name}: expected numbers or vectors, found {column.dtype}")
    return ItemColumns(tuple(specs), {SERVED: np.stack(columns, axis=1).astype(np.float32)})


def _matrix(column: pl.Series, name: str) -> NDArray[np.float64]:
    rows = column.to_list()
    widths = {len(row) for row in rows if row is not None}
    if len(widths) != 1:
        raise ConfigError(f"student.features.columns: {name}: expected vectors of one length, found {sorted(widths)}")
    try:
        matrix = np.array([row if row is not None else [0.0] * min(widths) for row in rows], dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(
            f"student.features.columns: {name}: expected vectors of numbers, found {column.dtype}"
        ) from None
    return np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)
