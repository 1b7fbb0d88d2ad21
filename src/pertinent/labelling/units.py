"""Units of work: fixed rows each, one shard written whole or not at all, a row that cannot be labelled set aside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import ConfigError, DataError, ModelError, RowsError, StoppedError
from pertinent.files import read_parquet, reason_of, write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.progress import Progress, progress, say

QUARANTINE = "quarantine.parquet"
NOT_FINITE = "probabilities are not finite"
_FAILED = {"query": pl.String, "item_id": pl.String, "text_hash": pl.String, "reason": pl.String}


class Labeller(Protocol):
    """What labels pairs: a teacher, or anything that scores as one.

    score raises RowsError where some of the pairs have no label, and StoppedError or ConfigError where none would have.
    """

    @property
    def teacher_id(self) -> str: ...

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]: ...


def label_units(
    pairs: pl.DataFrame,
    labeller: Labeller,
    names: Sequence[str],
    out: Path,
    config: LabelsConfig,
    *,
    kept: Sequence[str],
) -> pl.DataFrame:
    """Label ``pairs`` in their order, config.unit_pairs a shard; returns the rows that failed, as quarantine.parquet has.

    pairs: query, text and the columns ``kept`` of a shard. A unit whose shard is in ``out`` is not labelled again.
    A unit that fails is halved until the rows that make it fail are found: query, item_id, text_hash, reason.
    Raises ModelError as soon as more than config.max_failed of the pairs have failed, DataError where a shard cannot be
    written; what is written stays for the next start.
    """
    units = [pairs.slice(start, config.unit_pairs) for start in range(0, pairs.height, config.unit_pairs)]
    shards = [out / f"shard-{i:05d}.parquet" for i in range(len(units))]
    done = sum(unit.height for unit, shard in zip(units, shards, strict=True) if shard.exists())
    if done:
        say(f"labels: {done:,} pairs are labelled already")
    budget = _Budget(int(pairs.height * config.max_failed), sum(_parts(out)))
    with progress("labels: teacher", pairs.height, "pairs", done) as bar:
        for unit, shard in zip(units, shards, strict=True):
            if shard.exists():
                continue
            start = bar.done
            part = out / f"failed-{shard.stem}.parquet"
            part.unlink(missing_ok=True)
            probs, reasons = _labelled(unit, labeller, len(names), budget, bar)
            bar.advance(start + unit.height - bar.done)
            failed = pl.Series([reason is not None for reason in reasons], dtype=pl.Boolean)
            if failed.any():
                aside = unit.with_columns(reason=pl.Series(reasons, dtype=pl.String)).filter(failed)
                write_whole(part, aside.select(*_FAILED))
            columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(names)]
            labels = unit.select(kept).with_columns(*columns, teacher=pl.lit(labeller.teacher_id))
            write_whole(shard, labels.filter(~failed))
    return _gathered(out)


class _Budget:
    """Counts failed rows of all units, of this start and earlier ones."""

    def __init__(self, most: int, n_failed: int) -> None:
        self.most, self.n_failed = most, n_failed

    def spend(self, n: int, reason: str) -> None:
        self.n_failed += n
        if self.n_failed > self.most:
            raise ModelError(
                f"labels: expected at most {self.most:,} pairs to fail (labels.max_failed), found {self.n_failed:,},"
                f" the last by: {reason}"
            )


def _labelled(
    unit: pl.DataFrame, labeller: Labeller, n_grades: int, budget: _Budget, bar: Progress | None
) -> tuple[NDArray[np.float32], list[str | None]]:
    """Probabilities (N, n), and of each row the reason why it has none."""
    try:
        probs = labeller.score(unit["query"].to_list(), unit["text"].to_list(), bar)
    except (StoppedError, ConfigError):
        raise
    except RowsError as error:
        budget.spend(sum(reason is not None for reason in error.reasons), str(error))
        return np.asarray(error.results, dtype=np.float32), [reason and reason[:300] for reason in error.reasons]
    except Exception as error:  # whatever one row may do to a model must not cost the others
        if unit.height == 1:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
            budget.spend(1, reason)
            return np.full((1, n_grades), np.nan, dtype=np.float32), [reason]
        half = unit.height // 2
        parts = [_labelled(part, labeller, n_grades, budget, None) for part in (unit.head(half), unit.slice(half))]
        return np.concatenate([probs for probs, _ in parts]), [reason for _, reasons in parts for reason in reasons]
    broken = set(np.flatnonzero(~np.isfinite(probs).all(axis=1)).tolist())
    if broken:
        budget.spend(len(broken), NOT_FINITE)
    return probs, [NOT_FINITE if row in broken else None for row in range(unit.height)]


def _parts(out: Path) -> list[int]:
    """Failed rows of each finished unit. A part without its shard is of a unit that was cut off."""
    finished = [p for p in out.glob("failed-shard-*.parquet") if (out / p.name.removeprefix("failed-")).exists()]
    return [read_parquet(part).height for part in finished]


def _gathered(out: Path) -> pl.DataFrame:
    parts = sorted(out.glob("failed-shard-*.parquet"))
    failed = pl.concat([pl.DataFrame(schema=_FAILED), *[read_parquet(part) for part in parts]])
    if parts:
        write_whole(out / QUARANTINE, failed)
    return failed


def write_whole(path: Path, frame: pl.DataFrame) -> None:
    """Write Parquet whole or not at all. Raises DataError where the disk is full or the folder cannot be written."""
    try:
        write_parquet(path, frame)
    except (OSError, pl.exceptions.ComputeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be written: {reason}") from None
