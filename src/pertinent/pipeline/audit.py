"""`pertinent audit`: recompute the features and scores of a feature log from the bundle itself, and report any skew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.bundle import bundle_folder, open_bundle
from pertinent.bundle.adhoc import text_inputs
from pertinent.bundle.scorer import Inputs, Scorer
from pertinent.bundle.verify import FEATURE_TOLERANCE, PROBABILITY_TOLERANCE
from pertinent.errors import DataError
from pertinent.files import read_parquet
from pertinent.progress import progress
from pertinent.serving.bundles import hash_of
from pertinent.serving.feature_log import PATTERN

_BATCH = 4_096  # candidates recomputed at once
_NEEDED = ("time", "bundle", "request_id", "query", "item_id", "text", "from_store", "features", "relevance")


@dataclass(frozen=True)
class Tolerance:
    """Beyond which a difference is skew. The defaults are those of the parity gate, and no row may differ.

    features, probabilities: absolute. share: of the rows that may be beyond, in each column by itself.
    """

    features: float = FEATURE_TOLERANCE
    probabilities: float = PROBABILITY_TOLERANCE
    share: float = 0.0


def audit(log: Path, bundle: Path, tolerance: Tolerance | None = None) -> dict[str, Any]:
    """Compare what was served with what the bundle gives now, a pair at a time.

    log: folder of `pertinent.serving.feature_log`, or one file of it; rows of other bundles are counted and left.
    Returns {"bundle", "files", "requests", "rows", "from", "to" (ISO 8601), "other_bundles": {hash: rows},
    "compared", "unknown_when_served", "unknown_to_the_bundle", "from_store" (not compared: the bundle has not these items):
    rows, "features", "probabilities": {name: {"max_difference", "mean_difference", "share" (of the compared rows beyond
    tolerance)}}, "skewed": [names], "skew": bool}. Skewed are the columns whose share is above tolerance.share, and either kind of unknown rows where theirs is. Raises DataError for a
    log without rows of this bundle or a file that is not of a feature log, ModelError for the bundle.
    """
    allowed = tolerance or Tolerance()
    folder = bundle_folder(bundle)
    scorer, served = open_bundle(folder), hash_of(folder)
    found = _Found(scorer, allowed)
    files = files_of(log)
    with progress("audit", len(files), "files") as bar:
        for file in files:
            rows = own_rows(file, served, _NEEDED, found.others)
            if rows.height:
                _require(rows, scorer, file)
                found.add_file(rows)
            bar.advance()
    if not found.rows:
        held = ", ".join(name[:12] for name in found.others) or "none"
        raise DataError(f"{log}: expected rows of bundle {served[:12]} ({folder}), found {held}")
    return {"bundle": served, "files": len(files), **found.document()}


def files_of(log: Path) -> list[Path]:
    """The files of a feature log. Raises DataError where there is none."""
    files = [log] if log.is_file() else sorted(log.glob(PATTERN))
    if not files:
        raise DataError(f"{log}: expected a feature log, found no {PATTERN}")
    return files


def own_rows(file: Path, bundle: str, columns: Sequence[str], others: Counter[str] | None = None) -> pl.DataFrame:
    """Rows of one bundle, in some columns and p_1..p_n. others: counts the rest by bundle.

    Raises DataError for a file that is not of a feature log.
    """
    try:
        names = list(pl.read_parquet_schema(file))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if absent := [name for name in (*columns, "p_1") if name not in names]:
        raise DataError(f"{file}: expected a file of a feature log, found no column {absent[0]}")
    rows = read_parquet(file, [*columns, *(name for name in names if name.startswith("p_"))])
    own = rows.filter(pl.col("bundle") == bundle)
    if others is not None:
        for name, n in rows.filter(pl.col("bundle") != bundle)["bundle"].value_counts().iter_rows():
            others[name] += n
    return own


def _require(rows: pl.DataFrame, scorer: Scorer, file: Path) -> None:
    told = [one.name for one in rows.schema["features"].fields]  # type: ignore[attr-defined]
    if told != list(scorer.feature_names):
        missing = sorted(set(scorer.feature_names) ^ set(told)) or ["another order"]
        raise DataError(f"{file}: expected the features of the bundle, found a difference: {', '.join(missing)}")


class _Differences:
    """Sums over rows of absolute differences of K columns."""

    def __init__(self, names: Sequence[str], tolerance: float) -> None:
        self.names, self.tolerance, self.n = names, tolerance, 0
        self.worst, self.total, self.beyond = (np.zeros(len(names)) for _ in range(3))

    def add(self, logged: NDArray[np.float32], now: NDArray[np.float32]) -> None:
        both_missing = np.isnan(logged) & np.isnan(now)
        drift = np.abs(logged.astype(np.float64) - now.astype(np.float64))
        drift = np.where(both_missing, 0.0, np.nan_to_num(drift, nan=np.inf))
        self.n += len(drift)
        self.worst = np.maximum(self.worst, drift.max(axis=0, initial=0.0))
        self.total += drift.sum(axis=0)
        self.beyond += (drift > self.tolerance).sum(axis=0)

    def document(self) -> dict[str, dict[str, float]]:
        n = max(self.n, 1)
        columns = zip(
            self.names, self.worst.tolist(), (self.total / n).tolist(), (self.beyond / n).tolist(), strict=True
        )
        return {name: {"max_difference": a, "mean_difference": b, "share": c} for name, a, b, c in columns}


class _Found:
    """What has been compared so far."""

    def __init__(self, scorer: Scorer, allowed: Tolerance) -> None:
        self.scorer, self.allowed = scorer, allowed
        self.features = _Differences(scorer.feature_names, allowed.features)
        self.probs = _Differences(scorer.scale.probability_columns, allowed.probabilities)
        self.rows = self.from_store = 0
        self.unknown = {"unknown_when_served": 0, "unknown_to_the_bundle": 0}
        self.others: Counter[str] = Counter()
        self.requests: set[str] = set()
        self.times: list[datetime] = []

    def add_file(self, rows: pl.DataFrame) -> None:
        self.rows += rows.height
        self.from_store += int(rows["from_store"].sum())
        self.requests.update(rows["request_id"].unique())
        times = [*self.times, *rows["time"].sort().gather([0, -1])]
        self.times = [min(times), max(times)]
        # A store's items may have changed since, and the bundle has not what they were.
        for (query,), group in rows.filter(~pl.col("from_store")).group_by("query", maintain_order=True):
            for part in group.iter_slices(_BATCH):
                self._add(str(query), part)

    def _add(self, query: str, rows: pl.DataFrame) -> None:
        places = self.scorer.row_of.find(rows["item_id"].fill_null("").to_list())
        places[rows["item_id"].is_null().to_numpy()] = -1
        stored = places >= 0
        written = ~stored & rows["text"].is_not_null().to_numpy()
        served = rows["relevance"].is_not_null().to_numpy()
        self.unknown["unknown_when_served"] += int((~served & (stored | written)).sum())
        self.unknown["unknown_to_the_bundle"] += int((served & ~stored & ~written).sum())
        if (both := served & stored).any():
            self._compare(rows.filter(both), self.scorer.inputs(query, places[both]))
        if (both := served & written).any():
            held = rows.filter(both)
            self._compare(held, text_inputs(self.scorer, query, held["text"].to_list()))

    def _compare(self, rows: pl.DataFrame, inputs: Inputs) -> None:
        self.features.add(rows["features"].struct.unnest().to_numpy(), inputs[2])
        self.probs.add(rows.select(self.probs.names).to_numpy(), self.scorer.run(*inputs))

    def document(self) -> dict[str, Any]:
        features, probs = self.features.document(), self.probs.document()
        share = self.allowed.share
        skewed = [name for name, told in {**features, **probs}.items() if told["share"] > share]
        skewed += [name for name, n in self.unknown.items() if n / self.rows > share]
        counts = {"requests": len(self.requests), "rows": self.rows, "other_bundles": dict(self.others), **self.unknown}
        counts |= {"compared": self.features.n, "from_store": self.from_store}
        counts |= {"from": self.times[0].isoformat(), "to": self.times[1].isoformat()}
        return {**counts, "features": features, "probabilities": probs, "skewed": skewed, "skew": bool(skewed)}
