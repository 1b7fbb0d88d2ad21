"""Reads a folder of labels, group by group and in one pass each, so that the labels need not fit in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.data.build import load_scale
from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet
from pertinent.report.run_files import mapping
from pertinent.types import Scale

N_BINS = 24  # of the histogram of entropies
_KEY = ["query", "item_id"]
_SHOWN = "_group"


@dataclass(frozen=True)
class Group:
    """Labels of one value of a column. shares: (n,) mean probability of each grade. entropy: mean, in nats."""

    value: str
    n_pairs: int
    shares: NDArray[np.float64]
    entropy: float

    @property
    def mean_grade(self) -> float:
        """As it is shown, from 1."""
        return float(self.shares @ np.arange(1, self.shares.size + 1))


@dataclass(frozen=True)
class LabelFiles:
    """What a folder of labels says.

    manifest: of the stage; empty while there is none. groups: column -> its groups, most pairs first; "all" has one.
    entropies: (N_BINS,) pairs by entropy, from 0 to that of an even label. judged: the pairs that people judged too:
    query_id, query, item_id, language, grade, p_1..p_n and entropy. failed: reason, pairs, and a query of one. n_cached: of the
    labels, those that were taken from earlier ones.
    """

    name: str
    folder: Path
    scale: Scale
    dataset: Mapping[str, Any]
    manifest: Mapping[str, Any]
    groups: Mapping[str, Sequence[Group]]
    entropies: NDArray[np.int64]
    judged: pl.DataFrame
    failed: pl.DataFrame
    n_cached: int

    @property
    def n_pairs(self) -> int:
        """Labels in all."""
        return self.groups["all"][0].n_pairs


def read_labels(target: Path, data: Path | None = None) -> LabelFiles:
    """Read the labels of a run, or a folder of labels.

    target: a run folder with labels/, or the folder of shards. data: the data stage's folder; default: beside it.
    Raises DataError where there are no labels, no data stage, or a damaged file.
    """
    folder = target if any(target.glob("shard-*.parquet")) else target / "labels"
    shards = sorted(folder.glob("shard-*.parquet"))
    if not shards:
        raise DataError(f"{folder}: expected label shards (shard-*.parquet), found none")
    data = data or folder.parent / "data"
    dataset = mapping(read_json(data / "dataset.json"))
    scale = load_scale(data)
    labels = _scanned(shards, scale)
    sample = folder.parent / "sample" / "pairs.parquet"
    groups = {"all": _groups(labels, pl.lit("all labels"), scale)}
    groups["source"] = _groups(labels, pl.col("source").fill_null("none"), scale)
    if sample.is_file() and "stratum" in pl.read_parquet_schema(sample):
        strata = pl.scan_parquet(sample).select(*_KEY, "stratum").drop_nulls()
        groups["stratum"] = _groups(labels.join(strata, on=_KEY, how="inner"), pl.col("stratum"), scale)
    groups["language"] = _groups(labels, pl.col("language").fill_null("und"), scale)
    if not groups["all"]:
        raise DataError(f"{folder}: expected labels, found only empty shards")
    manifest = folder / "manifest.json"
    cached = folder / "shard-cached.parquet"
    return LabelFiles(
        name=folder.resolve().parent.name if folder.name == "labels" else folder.resolve().name,
        folder=folder,
        scale=scale,
        dataset=dataset,
        manifest=mapping(read_json(manifest)) if manifest.is_file() else {},
        groups=groups,
        entropies=_entropies(labels, scale),
        judged=_judged(labels, data / "judgments.parquet", scale),
        failed=_failed(folder / "quarantine.parquet"),
        n_cached=read_parquet(cached, ["query"]).height if cached.is_file() else 0,
    )


def _scanned(shards: Sequence[Path], scale: Scale) -> pl.LazyFrame:
    """query, item_id, language, source, p_1..p_n (float64) and entropy of every label."""
    columns = [*_KEY, "language", "source", *scale.probability_columns]
    for shard in shards:
        try:
            found = pl.read_parquet_schema(shard)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{shard}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
        missing = [column for column in columns if column not in found]
        if missing:
            raise DataError(f"{shard}: expected a column {missing[0]}, found none")
    labels = pl.concat([pl.scan_parquet(shard).select(columns) for shard in shards])
    probs = pl.col(scale.probability_columns).cast(pl.Float64)
    terms = [p * p.clip(1e-12).log() for p in map(pl.col, scale.probability_columns)]
    return labels.with_columns(probs).with_columns(entropy=-pl.sum_horizontal(terms))


def _groups(labels: pl.LazyFrame, by: pl.Expr, scale: Scale) -> list[Group]:
    means = pl.col(*scale.probability_columns, "entropy").mean()
    grouped = labels.group_by(by.cast(pl.String).alias(_SHOWN)).agg(pl.len().alias("n"), means)
    table = grouped.collect(engine="streaming").sort("n", _SHOWN, descending=[True, False])
    shares = table.select(scale.probability_columns).to_numpy()
    rows = zip(table[_SHOWN], table["n"], shares, table["entropy"], strict=True)
    return [Group(value, n_pairs, share, entropy) for value, n_pairs, share, entropy in rows]


def _entropies(labels: pl.LazyFrame, scale: Scale) -> NDArray[np.int64]:
    width = np.log(scale.n_grades) / N_BINS
    bins = (pl.col("entropy") / width).floor().clip(0, N_BINS - 1).cast(pl.Int64).alias("bin")
    counts = labels.group_by(bins).agg(pl.len()).collect(engine="streaming")
    found = np.zeros(N_BINS, dtype=np.int64)
    found[counts["bin"].to_numpy()] = counts["len"].to_numpy()
    return found


def _judged(labels: pl.LazyFrame, file: Path, scale: Scale) -> pl.DataFrame:
    judged = pl.scan_parquet(file).select("query_id", *_KEY, pl.col("grade").cast(pl.Int64)).unique(_KEY, keep="first")
    try:
        both = labels.join(judged, on=_KEY, how="inner").collect(engine="streaming").unique(_KEY, keep="first")
        return both.select("query_id", *_KEY, "language", "grade", *scale.probability_columns, "entropy").sort(_KEY)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None


def _failed(file: Path) -> pl.DataFrame:
    """reason, pairs and query (of the first such pair), most pairs first."""
    if not file.is_file():
        return pl.DataFrame(schema={"reason": pl.String, "pairs": pl.UInt32, "query": pl.String})
    rows = read_parquet(file, ["query", "reason"])
    counted = rows.group_by("reason", maintain_order=True).agg(pl.len().alias("pairs"), pl.col("query").first())
    return counted.sort("pairs", "reason", descending=[True, False])
