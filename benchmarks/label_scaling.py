"""Student quality by how many pairs the best teacher labelled, and teacher and student quality by human judgments.

    python benchmarks/pool.py && python benchmarks/label_scaling.py

Rows of the first curve, on Home Depot: 0x/SEED to 25x/SEED, a student on the labels of all judged training pairs and of the
first 0, 24,000, 72,000, 240,000 or 600,000 pairs of the pool (`pool.py`; each holds the smaller ones); people/SEED, a
student on the human grades of the judged pairs alone; teacher, the ceiling. Rows of the second: teacher/N, a teacher
(MiniLM, so that a row is short) on the first N human judgments; student/N/SEED, a student on what that teacher says of the
first 48,000 pairs of the pool. Dev, 3,600 human judgments that calibrate and stop early, is beside every N. The rows take
some three hours on 2 cores once the pool is labelled, by the speeds of other benchmarks; teachers, labels and students are
stages in the user's cache that go on where they were killed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common import (
    Target,
    measure_rows,
    run_main,
)
from homedepot import HomeDepot, manifest_of
from pertinent.bundle.scorer import open_bundle
from pertinent.files import cache_folder, sha256_of_json, write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.pipeline.stage import run_stage
from pertinent.progress import progress
from pertinent.student.config import StudentConfig
from pertinent.student.shards import human_rows
from pertinent.student.train import train_student
from pertinent.teacher.saving import load_teacher
from pertinent.types import StageResult
from pool import Pool
from teacher_models import minilm_folder

UNIT = 24_000  # pairs of 1x
TIMES = (0, 1, 3, 10, 25)
SEEDS = (0, 1, 2)
# Human judgments -> epochs: few rows are gone through more often, so that every teacher makes a thousand steps or about.
HUMAN: dict[str, tuple[int | None, int]] = {
    "1k": (1_000, 8),
    "3k": (3_000, 6),
    "10k": (10_000, 3),
    "30k": (30_000, 1),
    "all": (None, 1),
}
HUMAN_POOL = 48_000  # pairs that each teacher of the second curve labels
METRIC = "auroc_4+"
COLUMNS = (
    "human_judgments",
    "labels",
    "accuracy",
    "auroc_3+",
    "auroc_4+",
    "auroc_5+",
    "pair_accuracy",
    "ndcg@20",
    "ece",
)


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows(
        "label_scaling", __doc__, lambda quick: Bench(quick=quick).rows(), targets, columns=COLUMNS, seeds=SEEDS
    )


@dataclass(frozen=True)
class Bench:
    """The rows by name; the pool is opened when a row asks for it."""

    quick: bool

    def rows(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """name -> what measures it."""
        made: dict[str, Callable[[], dict[str, Any]]] = {"teacher": self._ceiling}
        for seed in SEEDS:
            made[f"people/{seed}"] = lambda seed=seed: self._on_people(seed)  # type: ignore[misc]
            for times in TIMES:
                made[f"{times}x/{seed}"] = lambda times=times, seed=seed: self._on_labels(times, seed)  # type: ignore[misc]
        for size in HUMAN:
            made[f"teacher/{size}"] = lambda size=size: self._human_teacher(size)  # type: ignore[misc]
            for seed in SEEDS:
                made[f"student/{size}/{seed}"] = lambda size=size, seed=seed: self._human_student(size, seed)  # type: ignore[misc]
        return made

    @cached_property
    def homedepot(self) -> HomeDepot:
        """Data and text."""
        return HomeDepot.prepared(300 if self.quick else None)

    @cached_property
    def pool(self) -> Pool:
        """The labelled pool."""
        return Pool(self.homedepot, quick=self.quick)

    def _ceiling(self) -> dict[str, Any]:
        """The best teacher itself."""
        return {**self._measured(self._scored(self.pool.teacher())), "human_judgments": self._n_judged}

    def _on_people(self, seed: int) -> dict[str, Any]:
        dataset = self.homedepot.dataset
        judgments = dataset.judgments.head(200) if self.quick else dataset.judgments
        table = human_rows(judgments, dataset.scale.probability_columns, 1.0)
        return {**self._student("people", table, seed), "human_judgments": table.height}

    def _on_labels(self, times: int, seed: int) -> dict[str, Any]:
        n_pairs = times * (UNIT // 8_000 if self.quick else UNIT)
        judged = self.pool.judged_labels()
        table = pl.concat([judged, self.pool.labels(n_pairs)]) if n_pairs else judged
        figures = self._student(f"{times}x", table, seed)
        return {**figures, "label_rows": table.height, "pool_pairs": n_pairs, "human_judgments": self._n_judged}

    def _human_teacher(self, size: str) -> dict[str, Any]:
        folder = self._teacher_of(size)
        manifest = manifest_of(folder)
        made = {"train_seconds": manifest["seconds"], "human_judgments": manifest["counts"]["train_rows"]}
        return {**self._measured(self._scored(folder)), **made}

    def _human_student(self, size: str, seed: int) -> dict[str, Any]:
        teacher = self._teacher_of(size)
        labels = self._labels_of(size, teacher)
        figures = self._student_on(f"human-{size}", labels, manifest_of(labels)["key"], seed)
        return {**figures, "human_judgments": manifest_of(teacher)["counts"]["train_rows"]}

    def _teacher_of(self, size: str) -> Path:
        n_rows, epochs = HUMAN[size]
        name = f"human-{size}"
        if self.quick:
            n_rows, epochs, name = min(n_rows or 40_000, 40_000) // 100, 1, f"quick-{name}"
        changes = {"backbone": minilm_folder(), "max_train_rows": n_rows, "epochs": epochs}
        return self.homedepot.train(name, changes, 0)

    def _labels_of(self, size: str, teacher: Path) -> Path:
        """What a teacher of the second curve says of the pool's first pairs: a labels stage in the cache."""
        folder = self._folder / f"labels-{size}"
        table = self.pool.labels(60 if self.quick else HUMAN_POOL).select("query", "item_id", "source")
        pairs = self._folder / "human-pairs.parquet"
        pairs.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pairs, table.insert_column(2, pl.lit("en").alias("language")))
        config = LabelsConfig(pairs=pairs)
        data, text = self.homedepot.data, self.homedepot.text
        run_stage(
            "labels",
            folder,
            config={"pairs": _key_of(table)},
            seed=0,
            inputs={"teacher": manifest_of(teacher)["key"], "text": manifest_of(text)["key"]},
            work=lambda out: label_pairs(config, data, text, teacher, out, seed=0),
        )
        return folder

    def _student(self, name: str, table: pl.DataFrame, seed: int) -> dict[str, Any]:
        """Figures of a student on ``table``: query, item_id, p_1..p_n."""
        columns = ["query", "item_id", *self.homedepot.dataset.scale.probability_columns]
        key = _key_of(table.select(columns))
        labels = self.pool.write_labels(table.select(columns), self._folder / f"table-{name}-{key[:12]}")
        return self._student_on(name, labels, key, seed)

    def _student_on(self, name: str, labels: Path, key: str, seed: int) -> dict[str, Any]:
        config = StudentConfig(epochs=1) if self.quick else StudentConfig()
        folder = self._folder / f"student-{name}-{seed}"
        data, text = self.homedepot.data, self.homedepot.text

        def work(out: Path) -> StageResult:
            return train_student(config, data, text, labels, out, seed=seed)

        settings = config.model_dump(mode="json", exclude={"workers", "buffer_rows"})
        manifest = run_stage(
            "student",
            folder,
            config=settings,
            seed=seed,
            inputs={"labels": key, "text": manifest_of(text)["key"]},
            work=work,
        )
        counts = manifest["counts"]
        pairs = self.homedepot.held_out.select("query", "item_id")
        probs = open_bundle(folder).score_pairs(pairs).select(self.homedepot.dataset.scale.probability_columns)
        made = {
            "labels": counts["label_rows"],
            "epochs_run": counts["epochs_run"],
            "train_seconds": manifest["seconds"],
        }
        return {**self._measured(probs.to_numpy()), **made}

    def _scored(self, teacher: Path) -> NDArray[np.float32]:
        queries, texts = self.homedepot.queries_and_texts()
        with progress(f"score with {teacher.name}", len(queries), "pairs") as bar:
            return load_teacher(teacher).score(queries, texts, bar)

    def _measured(self, probs: NDArray[np.float32]) -> dict[str, Any]:
        return self.homedepot.figures(probs=probs.astype(np.float32))

    @property
    def _n_judged(self) -> int:
        return self.homedepot.dataset.judgments.filter(pl.col("split") == "train").height

    @property
    def _folder(self) -> Path:
        return cache_folder() / "benchmarks" / ("quick-label-scaling" if self.quick else "label-scaling")


def _key_of(table: pl.DataFrame) -> str:
    """A hash of the rows in their order."""
    rows = hashlib.sha256(table.hash_rows(seed=0).to_numpy().tobytes()).hexdigest()
    return sha256_of_json([table.columns, rows])


def mean_of(rows: Mapping[str, Mapping[str, Any]], name: str, metric: str = METRIC) -> float | None:
    """The mean over all seeds of NAME/SEED, or None while one of them is missing."""
    found = [rows[row][metric] for seed in SEEDS if (row := f"{name}/{seed}") in rows]
    return float(np.mean(found)) if len(found) == len(SEEDS) else None


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The first curve rises at every step: the smallest of its rises."""
    means = [mean_of(rows, f"{times}x") for times in TIMES]
    steps = [after - before for before, after in itertools.pairwise(means) if before and after]
    smallest = round(min(steps), 4) if len(steps) == len(TIMES) - 1 else None
    return [Target("student, AUROC 4+, smallest rise from 0x to 1x, 3x, 10x and 25x", 0.0001, ">=", smallest)]


if __name__ == "__main__":
    run_main(main)
