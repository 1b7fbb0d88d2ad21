"""Units of work: one shard each, written whole or not at all; rows that cannot be labelled set aside in a file of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pertinent.data.units import is_whole, unit_files
from pertinent.files import read_parquet
from pertinent.labelling.engine import Budget, LabelEngine, Labelled, Units
from pertinent.labelling.plan import Plan, write_whole
from pertinent.progress import progress, say

QUARANTINE = "quarantine.parquet"
_FAILED = {"query": pl.String, "item_id": pl.String, "text_hash": pl.String, "reason": pl.String}
_WAITING = 2  # units labelled and not yet written


def label_units(
    plan: Plan,
    engine: LabelEngine,
    names: Sequence[str],
    teacher_id: str,
    out: Path,
    *,
    kept: Sequence[str],
    max_failed: float,
) -> pl.DataFrame:
    """Label the units of ``plan``, a shard each; returns the rows that failed, as quarantine.parquet has them.

    kept: columns of the plan that a shard has beside names and teacher. A unit whose shard is in ``out`` is not labelled
    again. Rows that cannot be labelled have query, item_id, text_hash, reason. Shards are written while the next unit is
    labelled. Raises ModelError as soon as more than max_failed of the pairs have failed, DataError where a shard cannot
    be written; what is written stays for the next start.
    """
    files = unit_files(out, plan.n_units, "shard")
    left = [number for number, file in enumerate(files) if not is_whole(file, None, "labels")]
    for number in left:
        files[number].unlink(missing_ok=True)  # a damaged one, whose failed rows will be found again
    done = plan.n_pairs - sum(min(plan.unit_pairs, plan.n_pairs - number * plan.unit_pairs) for number in left)
    if done:
        say(f"labels: {done:,} pairs are labelled already")
    budget = Budget(int(plan.n_pairs * max_failed), _n_failed(out))
    units: Units = ((number, plan.unit(number)) for number in left)
    writer = _Writer(out, tuple(kept), tuple(names), teacher_id)
    with progress("labels: teacher", plan.n_pairs, "pairs", done) as bar:
        writer.write_all(engine.label(units, len(names), budget, bar))
    return _gathered(out)


@dataclass(frozen=True)
class _Writer:
    """Writes labelled units beside the work on the next ones."""

    out: Path
    kept: tuple[str, ...]
    names: tuple[str, ...]
    teacher_id: str

    def write_all(self, units: Iterator[Labelled]) -> None:
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, "write") as pool:  # whose end waits for what is labelled to be written
            for unit in units:
                while len(waiting) >= _WAITING or (waiting and waiting[0].done()):
                    waiting.popleft().result()
                waiting.append(pool.submit(self.write, unit))
        for written in waiting:
            written.result()

    def write(self, unit: Labelled) -> None:
        shard = self.out / f"shard-{unit.number:05d}.parquet"
        part = self.out / f"failed-{shard.stem}.parquet"
        failed = pl.Series([reason is not None for reason in unit.reasons], dtype=pl.Boolean)
        part.unlink(missing_ok=True)  # of a start that was cut off before the shard
        if failed.any():
            aside = unit.frame.with_columns(reason=pl.Series(unit.reasons, dtype=pl.String)).filter(failed)
            write_whole(part, aside.select(*_FAILED))
        columns = [pl.Series(name, unit.probs[:, k]) for k, name in enumerate(self.names)]
        labels = unit.frame.select(self.kept).with_columns(*columns, teacher=pl.lit(self.teacher_id))
        write_whole(shard, labels.filter(~failed))


def _n_failed(out: Path) -> int:
    """Failed rows of finished units. A part without its shard is of a unit that was cut off."""
    finished = [p for p in out.glob("failed-shard-*.parquet") if (out / p.name.removeprefix("failed-")).exists()]
    return sum(read_parquet(part).height for part in finished)


def _gathered(out: Path) -> pl.DataFrame:
    parts = sorted(out.glob("failed-shard-*.parquet"))
    failed = pl.concat([pl.DataFrame(schema=_FAILED), *[read_parquet(part) for part in parts]])
    if parts:
        write_whole(out / QUARANTINE, failed)
    return failed
