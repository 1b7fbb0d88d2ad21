"""How much of the bare model's speed labelling keeps, on one process and on Ray, and what a dry run's estimate is worth.

    python benchmarks/label_throughput.py

Home Depot's pairs and a multilingual-e5-small cross-encoder. Rows, each in a process of its own, about 45 minutes in all on 2
cores: ``local``, from the plan on disk to shards, alternating with the bare loop of the network over batches that were
tokenised and sorted before; ``predict``, alternating with `CrossEncoder.predict` of sentence-transformers on the same pairs,
which then writes one Parquet file; ``ray``, two workers of a core each, alternating with ``local``; ``memory/200k`` and
``memory/2M``, the head of a Ray run whose labeller is a stub; ``dry-run/local`` and ``dry-run/ray``, the estimate before a run
and the run. Opening the teacher counts in the last two alone. needs PERTINENT_DATA, sentence-transformers and Ray.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common import (
    Target,
    measure_rows,
    parser_of,
    run_child,
    run_main,
)
from homedepot import HomeDepot
from pertinent.files import cache_folder
from pertinent.labelling.config import EngineName, LabelsConfig, RayConfig
from pertinent.labelling.engine import LabelEngine, Labeller, LocalEngine
from pertinent.labelling.estimate import estimate_labels
from pertinent.labelling.label import label_pairs
from pertinent.labelling.plan import PLAN, TEXT_ROW, Plan, choose_pairs, write_plan
from pertinent.labelling.ray_engine import RayEngine, ray_cluster
from pertinent.labelling.units import label_units
from pertinent.progress import Progress
from pertinent.teacher.saving import load_teacher, teacher_id_of
from teacher_speed import MAX_TOKENS, e5_folder, trained_teacher

N_PAIRS, N_QUICK = 16_384, 256
STUB_PAIRS = {"memory/200k": 200_000, "memory/2M": 2_000_000}
STUB_QUICK = {"memory/200k": 2_000, "memory/2M": 20_000}
ROUNDS = 3
SEED = 0
UNIT_PAIRS = 4096
WORKERS = RayConfig(workers=2)
NAMES = ("local", "predict", "ray", *STUB_PAIRS, "dry-run/local", "dry-run/ray")
COLUMNS = (
    "n_pairs",
    "pairs_per_s",
    "other_pairs_per_s",
    "ratio",
    "estimated_s",
    "seconds_taken",
    "peak_gib",
    "ray_gib",
)
_NAMES_OF_GRADES = ("p_1", "p_2", "p_3", "p_4", "p_5")
_KEPT = ("query", "item_id", "text_hash")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; or, as a child process, write the plan of a stub's run."""
    parser = parser_of(__doc__)
    parser.add_argument("--write-plan", nargs=2, help=argparse.SUPPRESS)
    told = parser.parse_args().write_plan
    if told:
        write_stub_plan(int(told[0]), Path(told[1]))
        return
    measure_rows("label_throughput", __doc__, rows_of, targets, columns=COLUMNS, seeds=[SEED], parser=parser)


def rows_of(quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    return {name: partial(MEASURES[name], quick=quick) for name in NAMES}


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The aims of labelling at scale."""

    def of(row: str, figure: str) -> float | None:
        return rows[row][figure] if row in rows else None

    overhead = of("local", "ratio")
    small, large = (of(name, "peak_gib") for name in STUB_PAIRS)
    errors = [abs(rows[name]["ratio"] - 1) for name in ("dry-run/local", "dry-run/ray") if name in rows]
    return [
        Target(
            "overhead of local over the bare model loop",
            0.08,
            "<=",
            None if overhead is None else round(1 / overhead - 1, 4),
        ),
        Target("pairs/s of local, times those of CrossEncoder.predict", 2.0, ">=", of("predict", "ratio")),
        Target("pairs/s of ray on two one-core workers, times those of local", 0.85, ">=", of("ray", "ratio")),
        Target(
            "peak memory of the head at 2M pairs, times that at 200k",
            1.05,
            "<=",
            None if small is None or large is None else round(large / small, 3),
        ),
        Target("largest error of a dry run's hours, as a share", 0.15, "<=", round(max(errors), 3) if errors else None),
    ]


def measure_local(*, quick: bool) -> dict[str, Any]:
    """From the plan on disk to shards, and the network over batches that are there."""
    teacher = load_teacher(trained_teacher(quick=True))
    with planned(quick=quick) as plan:
        bare = bare_loop(teacher, plan)
        return alternating(plan.n_pairs, partial(label_all, plan, LocalEngine(teacher)), bare, quick=quick)


def measure_predict(*, quick: bool) -> dict[str, Any]:
    """Local, and `CrossEncoder.predict` on the same pairs in their order of the plan."""
    from sentence_transformers.cross_encoder import CrossEncoder

    engine = LocalEngine(load_teacher(trained_teacher(quick=True)))
    with planned(quick=quick) as plan, tempfile.TemporaryDirectory() as folder:
        model = CrossEncoder(str(e5_folder()), num_labels=5, max_length=MAX_TOKENS)
        whole = plan.rows(0, plan.n_pairs)

        def predict() -> None:
            pairs = list(zip(whole["query"].to_list(), whole["text"].to_list(), strict=True))
            probs = model.predict(pairs, apply_softmax=True, show_progress_bar=False)
            columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(_NAMES_OF_GRADES)]
            whole.select(_KEPT).with_columns(columns).write_parquet(Path(folder) / "labels.parquet")

        return alternating(plan.n_pairs, partial(label_all, plan, engine), predict, quick=quick)


def measure_ray(*, quick: bool) -> dict[str, Any]:
    """Two workers of a core each, and local on the same two cores; start_s, until the workers can label, is not counted."""
    folder = trained_teacher(quick=True)
    local, engine = LocalEngine(load_teacher(folder)), RayEngine(partial(load_teacher, folder), WORKERS)
    with planned(quick=quick, unit_pairs=UNIT_PAIRS // 8) as plan, ray_cluster(WORKERS):
        start_s = median(engine.on_every_worker(_nothing)[0] for _ in range(1 if quick else ROUNDS))
        ours, other = (partial(label_all, plan, one) for one in (engine, local))
        return {**alternating(plan.n_pairs, ours, other, quick=quick, start_s=start_s), "start_s": start_s}


def _nothing(labeller: Labeller) -> None:
    """Work that takes no time."""


def alternating(
    n_pairs: int, ours: Callable[[], None], other: Callable[[], None], *, quick: bool, start_s: float = 0.0
) -> dict[str, Any]:
    """Medians of rounds in turn, after one that is not counted; start_s: of ours, taken off."""
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    for _ in range(1 if quick else ROUNDS + 1):
        for name, work in (("ours", ours), ("other", other)):
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    took = {name: median(times[min(1, len(times) - 1) :]) for name, times in seconds.items()}
    mine, others = n_pairs / max(took["ours"] - start_s, 1e-3), n_pairs / took["other"]
    return {"n_pairs": n_pairs, "pairs_per_s": mine, "other_pairs_per_s": others, "ratio": round(mine / others, 4)}


@contextmanager
def planned(*, quick: bool, unit_pairs: int = UNIT_PAIRS) -> Iterator[Plan]:
    """The plan of the labels stage for Home Depot's pairs."""
    homedepot = HomeDepot.prepared()
    chosen = choose_pairs(labels_config(quick=quick), homedepot.data, homedepot.text, "none", SEED)
    with tempfile.TemporaryDirectory() as folder:
        units = 64 if quick else unit_pairs
        yield write_plan(Path(folder) / PLAN, chosen.pairs, chosen.texts.rows["text"], units)


def labels_config(*, quick: bool, engine: EngineName = "local") -> LabelsConfig:
    """Judged pairs of training queries alone, so that choosing them takes no time."""
    n_pairs = N_QUICK if quick else N_PAIRS
    units = UNIT_PAIRS // 8
    return LabelsConfig(
        max_pairs=n_pairs, pool_per_query=0, random_per_query=0, unit_pairs=units, engine=engine, ray=WORKERS
    )


def label_all(plan: Plan, engine: LabelEngine) -> None:
    """Every unit of the plan, to shards."""
    with tempfile.TemporaryDirectory() as out:
        label_units(plan, engine, _NAMES_OF_GRADES, "benchmark", Path(out), kept=_KEPT, max_failed=0.0)


def bare_loop(teacher: Any, plan: Plan) -> Callable[[], None]:
    """The network over token ids that are sorted and cut into batches before the clock starts."""
    from pertinent.teacher.model import token_batches

    member = teacher.members[0]
    whole = plan.rows(0, plan.n_pairs)
    rows = member.pairs.encode(whole["query"].to_list(), whole["text"].to_list()).rows
    order = np.argsort([len(row) for row in rows], kind="stable")
    batches = [[rows[i] for i in batch] for batch in token_batches(order, rows, member.batch_tokens)]

    def loop() -> None:
        for batch in batches:
            member.engine.logits(batch, member.pad_id)

    return loop


class Stub:
    """Labels at once: what is left is the engine."""

    teacher_id = "stub"

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        return np.full((len(queries), 2), 0.5, dtype=np.float32)


def write_stub_plan(n_pairs: int, file: Path) -> None:
    """Pairs of 10,000 items, by generated names."""
    rows = pl.DataFrame({"row": np.arange(n_pairs)})
    pairs = rows.select(
        pl.format("query number {}", pl.col("row") // 50).alias("query"),
        pl.format("item-{}", pl.col("row") % 10_000).alias("item_id"),
        pl.lit("0123456789abcdef").alias("text_hash"),
        (pl.col("row") % 10_000).cast(pl.UInt32).alias(TEXT_ROW),
    )
    write_plan(file, pairs, pl.Series(["text"]), UNIT_PAIRS)


def measure_memory(name: str, *, quick: bool) -> dict[str, Any]:
    """Peak memory of the head's process, and of Ray's own beside it, for n pairs."""
    n_pairs = (STUB_QUICK if quick else STUB_PAIRS)[name]
    texts = pl.Series(
        [f"title: the item of number {k}, " + "as it is described at some length " * 8 for k in range(10_000)]
    )
    folder = Path(tempfile.mkdtemp(dir=_scratch()))
    try:
        run_child([sys.executable, __file__, "--write-plan", str(n_pairs), str(folder / PLAN)])
        plan = Plan(folder / PLAN, texts, 1024 if quick else UNIT_PAIRS)
        with ray_cluster(WORKERS):
            started = time.perf_counter()
            label_units(plan, RayEngine(Stub, WORKERS), ("p_1", "p_2"), "stub", folder, kept=_KEPT, max_failed=0.0)
            seconds = time.perf_counter() - started
            ray_gib = round(sum(map(_peak_bytes, _children())) / 2**30, 2)
        n_found = pl.scan_parquet(folder / "shard-*.parquet").select(pl.len()).collect().item()
        assert n_found == n_pairs, f"{n_found} of {n_pairs} pairs"
    finally:
        shutil.rmtree(folder)
    return {"n_pairs": n_pairs, "pairs_per_s": n_pairs / seconds, "ray_gib": ray_gib}


def _scratch() -> Path:
    folder = cache_folder() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _children() -> list[int]:
    """The processes that this one started: Ray's daemons, whose own children are the workers."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure_dry_run(engine: EngineName, *, quick: bool) -> dict[str, Any]:
    """The estimate, and then the labels stage: ratio is the estimate's seconds over the run's."""
    homedepot, teacher = HomeDepot.prepared(), trained_teacher(quick=True)
    config = labels_config(quick=quick, engine=engine)
    folders = (homedepot.data, homedepot.text, teacher)
    told = estimate_labels(config, *folders, engines=[engine], price_per_hour_usd=1.0, seed=SEED)
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        counts = label_pairs(config, *folders, Path(out), seed=SEED).counts
        seconds = time.perf_counter() - started
    assert counts["pairs"] == told["rows"], "the estimate is of other pairs"
    assert counts["teacher"] == teacher_id_of(teacher)
    estimated_s = told["engines"][engine]["hours"] * 3600
    return {
        "n_pairs": counts["pairs"],
        "pairs_per_s": counts["pairs"] / seconds,
        "estimated_s": round(estimated_s, 1),
        "seconds_taken": round(seconds, 1),
        "ratio": round(estimated_s / seconds, 3),
    }


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "local": measure_local,
    "predict": measure_predict,
    "ray": measure_ray,
    **{name: partial(measure_memory, name) for name in STUB_PAIRS},
    "dry-run/local": partial(measure_dry_run, "local"),
    "dry-run/ray": partial(measure_dry_run, "ray"),
}


if __name__ == "__main__":
    run_main(main)
