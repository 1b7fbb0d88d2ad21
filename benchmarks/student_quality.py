"""How much of the best teacher the student keeps on Home Depot, against LightGBM on the same features, and what features give.

    python benchmarks/pool.py && python benchmarks/student_quality.py --rows 'student/*' 'lightgbm/*'

Rows: random, majority, bm25, cosine-use, cosine-e5; teacher, the best one (`pool.py`); MODEL/LABELS/SEED, a student on the
human grades of the judged training pairs (human), on what the best teacher says of them (soft), or of them and of the pool
(pool). MODEL: student (network, static vectors), lightgbm, sentence-e5, sentence-minilm (network, frozen encoder), tower-minilm
(network, an encoder trained on the labels first; one seed).
without/GROUP, student/pool/0 without a group of features. differences: student/pool less each lightgbm, means over seeds on
the same queries, from the scores that their rows left in the user's cache, where the students are kept too. msrd/MODEL: the
network and LightGBM on 60,000 labels of the teacher of ``text_fields.py``'s msrd/engaged/0, with engagement and graph
features, cross-fitted. esci/MODEL: the same on ESCI's small set, fold by fold, on the labels of a run of its config.
A row of the pool takes some ten minutes on 2 cores, those of encoders half an hour, by the speeds of other benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common import (
    ROOT,
    Target,
    measure_rows,
    run_main,
)
from homedepot import RESAMPLES, HomeDepot, manifest_of
from label_scaling import mean_of
from pertinent.bundle.scorer import open_bundle
from pertinent.config import parse_config
from pertinent.data.build import load_dataset
from pertinent.errors import DataError
from pertinent.evaluation import evaluate, paired_difference
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.files import cache_folder, read_parquet, sha256_of_json, write_json, write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.pipeline import load_run_config, run_pipeline
from pertinent.pipeline.evaluate import with_system
from pertinent.pipeline.stage import run_stage
from pertinent.pipeline.student import student_inputs, train_from_run
from pertinent.progress import progress
from pertinent.student.config import StudentConfig
from pertinent.teacher.saving import load_teacher
from pool import Pool
from teacher_models import Bench as TeacherBench
from teacher_models import minilm_folder
from text_fields import Bench as FieldsBench
from text_fields import Mean

SEEDS = (0, 1, 2)
BASELINES = ("random", "majority", "bm25", "cosine-use", "cosine-e5")
LABELS = ("human", "soft", "pool")
# Groups of features -> what is left out.
GROUPS: dict[str, tuple[str, ...]] = {
    "vectors": ("vectors",),
    "bm25": ("*.bm25",),
    "matches": ("*matched*",),
    "order": ("*.ordered", "*.phrase", "*.proximity", "*.position"),
    "trigrams": ("*trigram*",),
    "numbers": ("*numbers*", "*measure*"),
    "query": ("query_*",),
    "body": ("body.*",),
    "all-but-vectors": ("title.*", "body.*", "*_anywhere", "query_*"),
}
THRESHOLDS = (3, 4, 5)
FLOORS = {3: 0.75, 4: 0.73, 5: 0.78}
KEPT = 0.95  # of the best teacher's AUROC over BM25
QUICK: dict[str, Any] = {"epochs": 1, "trees": {"rounds": 20}}
ESCI_FOLDS = (0, 1, 2, 3, 4)
COLUMNS = ("label_rows", "seconds_of_training", "accuracy", "auroc_3+", "auroc_4+", "auroc_5+", "pair_accuracy", "ece")


def models() -> dict[str, dict[str, Any]]:
    """Name -> the settings of the student; made when asked for, since an encoder's folder is looked up."""
    return {
        "student": {},
        "lightgbm": {"backend": "lightgbm"},
        "sentence-e5": {"encoder": "sentence"},
        "sentence-minilm": {"encoder": "sentence", "sentence": {"backbone": minilm_folder()}},
        "tower-minilm": {"encoder": "tower", "sentence": {"backbone": minilm_folder()}},
    }


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows(
        "student_quality", __doc__, lambda quick: Bench(quick=quick).rows(), targets, columns=COLUMNS, seeds=SEEDS
    )


@dataclass(frozen=True)
class Bench:
    """The rows by name; data and pool are opened when a row asks for them."""

    quick: bool

    def rows(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """name -> what measures it."""
        baselines = TeacherBench(quick=self.quick).rows()
        made: dict[str, Callable[[], dict[str, Any]]] = {name: baselines[name] for name in BASELINES}
        made["teacher"] = self._teacher
        for model in ("student", "lightgbm"):
            for labels in LABELS:
                for seed in SEEDS:
                    made[f"{model}/{labels}/{seed}"] = self._maker(model, labels, seed)
        for model in ("sentence-e5", "sentence-minilm"):
            for seed in SEEDS:
                made[f"{model}/pool/{seed}"] = self._maker(model, "pool", seed)
        made["tower-minilm/pool/0"] = self._maker("tower-minilm", "pool", 0)
        for group, without in GROUPS.items():
            made[f"without/{group}"] = self._maker("student", "pool", 0, f"without-{group}", without)
        made["differences"] = self._differences
        for model in ("student", "lightgbm"):
            made[f"msrd/{model}"] = lambda model=model: self._msrd(model)  # type: ignore[misc]
            made[f"esci/{model}"] = lambda model=model: self._esci(model)  # type: ignore[misc]
        return made

    @cached_property
    def homedepot(self) -> HomeDepot:
        """Data and text."""
        return HomeDepot.prepared(300 if self.quick else None)

    @cached_property
    def pool(self) -> Pool:
        """The labelled pool."""
        return Pool(self.homedepot, quick=self.quick)

    def _teacher(self) -> dict[str, Any]:
        queries, texts = self.homedepot.queries_and_texts()
        with progress("score with the best teacher", len(queries), "pairs") as bar:
            probs = load_teacher(self.pool.teacher()).score(queries, texts, bar)
        return self._figures("teacher", probs)

    def _maker(
        self, model: str, labels: str, seed: int, name: str = "", without: Sequence[str] = ()
    ) -> Callable[[], dict[str, Any]]:
        return lambda: self._student(model, labels, seed, name or f"{model}-{labels}", without)

    def _student(self, model: str, labels: str, seed: int, name: str, without: Sequence[str]) -> dict[str, Any]:
        settings = {**models()[model], **(QUICK if self.quick else {}), "features": {"without": list(without)}}
        config = parse_config(StudentConfig, settings, name)
        table = self._table(labels)
        key = sha256_of_json(table.hash_rows(seed=0).sort().to_list())
        data, text = self.homedepot.data, self.homedepot.text
        folder = self._folder / f"{name}-{seed}"
        source = self._folder / f"labels-{labels}-{key[:12]}"
        self.pool.write_labels(table, source)
        manifest = run_stage(
            "student",
            folder,
            config=config.model_dump(mode="json", exclude={"workers"}),
            seed=seed,
            inputs={"labels": key, "text": manifest_of(text)["key"], **student_inputs(config)},
            work=lambda out: train_from_run(config, data, text, source, out, seed=seed),
        )
        pairs = self.homedepot.held_out.select("query", "item_id")
        probs = open_bundle(folder).score_pairs(pairs).select(self.homedepot.dataset.scale.probability_columns)
        counts = manifest["counts"]
        made = {
            "label_rows": counts["label_rows"],
            "epochs_run": counts["epochs_run"],
            "seconds_of_training": manifest["seconds"],
            "student_code": manifest["code"],
            "probabilities_moved": counts["vectors"]["probabilities_moved"],
            "bytes_per_item": counts["store_bytes_per_item"],
        }
        return {**self._figures(f"{name}-{seed}", probs.to_numpy().astype(np.float32)), **made}

    def _table(self, labels: str) -> pl.DataFrame:
        """query, item_id, p_1..p_n."""
        names = self.homedepot.dataset.scale.probability_columns
        if labels == "human":
            judged = self.homedepot.dataset.judgments.filter(pl.col("split") == "train")
            judged = judged.head(200) if self.quick else judged
            one_hot = [(pl.col("grade") == k).cast(pl.Float32).alias(name) for k, name in enumerate(names)]
            return judged.select("query", "item_id", *one_hot)
        soft = self.pool.judged_labels().select("query", "item_id", *names)
        if labels == "soft":
            return soft
        if self.pool.finished() != self.pool.names:
            raise DataError("pool: expected all parts labelled, found fewer: run benchmarks/pool.py")
        return pl.concat([soft, self.pool.labels().select(soft.columns)])

    def _figures(self, name: str, probs: NDArray[np.float32]) -> dict[str, Any]:
        """Metrics on test; the chances of every threshold are kept under ``name`` for the row of differences."""
        names = self.homedepot.dataset.scale.probability_columns
        columns = [pl.Series(column, probs[:, k]) for k, column in enumerate(names)]
        kept = self.homedepot.held_out.with_columns(columns).filter(pl.col("split") == "test")
        file = self._scores(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(file, kept.select("query_id", "item_id", "grade", *names))
        return self.homedepot.figures(probs=probs)

    def _differences(self) -> dict[str, Any]:
        """student/pool less each other model by AUROC: difference of means over seeds, its 95% interval."""
        seeds = SEEDS[:1] if self.quick else SEEDS
        found = {}
        for other in ("lightgbm-human", "lightgbm-soft", "lightgbm-pool"):
            for threshold in THRESHOLDS:
                ours, theirs = (
                    Mean([self._auroc(f"{name}-{seed}", threshold) for seed in seeds])
                    for name in ("student-pool", other)
                )
                paired = paired_difference(ours, theirs, resamples=RESAMPLES)
                found[f"{other}, {threshold}+"] = {"difference": paired.difference, "interval": paired.interval}
        return found

    def _auroc(self, name: str, threshold: int) -> PooledAuroc:
        file = self._scores(name)
        if not file.is_file():
            raise DataError(f"differences: expected the scores of {name}, found none: measure its row first")
        scores = read_parquet(file).sort("query_id", "item_id")
        queries = scores["query_id"].rank("dense").to_numpy().astype(np.int64) - 1
        names = self.homedepot.dataset.scale.probability_columns[threshold - 1 :]
        chance = scores.select(pl.sum_horizontal(names))["p_" + str(threshold)].to_numpy().astype(np.float64)
        return PooledAuroc.of(queries, int(queries.max()) + 1, (scores["grade"] >= threshold - 1).to_numpy(), chance)

    # MSRD and ESCI: labels that both models learn

    def _msrd(self, model: str) -> dict[str, Any]:
        judged, text, teacher = FieldsBench(quick=self.quick).msrd_engaged(0)
        data, mined = judged.folder / "data", {"mine": judged.folder / "mine"}
        sizes = {"log_pairs": 100, "max_pairs": 200} if self.quick else {"log_pairs": 30_000, "max_pairs": 60_000}
        config = parse_config(LabelsConfig, {**sizes, "pool_per_query": 2}, "labels")
        labels = self._folder / "msrd-labels"
        inputs = {part.name: manifest_of(part)["key"] for part in (data, text, teacher)}
        run_stage(
            "labels",
            labels,
            config=config.model_dump(mode="json"),
            seed=0,
            inputs=inputs,
            work=lambda out: label_pairs(config, data, text, teacher, out, seed=0),
        )
        return self._on_labels("msrd", model, {"engagement": True, "graph": 32}, (data, text, labels), mined)

    def _esci(self, model: str) -> dict[str, Any]:
        folds = ESCI_FOLDS[:1] if self.quick else ESCI_FOLDS
        parts = []
        for fold in folds:
            config = load_run_config(ROOT / "configs" / "esci_us_small.yaml", [f"data.esci.fold={fold}"])
            tree = config.model_dump(
                mode="json", exclude={"output", "student", "evaluation", "seed"}, exclude_none=True
            )
            tree = {**tree, "name": f"esci-{fold}", "data": {**tree["data"], "path": str(config.data.path)}}
            if self.quick:
                tree["teacher"]["max_train_rows"], tree["labels"]["max_pairs"] = 64, 200
            parts.append(self._on_run(tree, model))
        metrics = [key for key in parts[0] if all(isinstance(part[key], float) for part in parts)]
        means = {key: float(np.mean([part[key] for part in parts])) for key in metrics}
        return {**means, "label_rows": sum(part["label_rows"] for part in parts), "folds": parts}

    def _on_run(self, tree: dict[str, Any], model: str) -> dict[str, Any]:
        """The stages up to the labels, made once a set; the model on them; its figures on test."""
        file = self._folder / "runs" / f"{tree['name']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**tree, "output": str(file.parent)})
        run = load_run_config(file)
        run_pipeline(run, until="labels")
        folders = (run.folder / "data", run.folder / "text", run.folder / "labels")
        return self._on_labels(tree["name"], model, {}, folders, {})

    def _on_labels(
        self,
        name: str,
        model: str,
        features: dict[str, Any],
        folders: tuple[Path, Path, Path],
        mined: Mapping[str, Path],
    ) -> dict[str, Any]:
        """The model on the folders data, text and labels, and its figures on test."""
        settings = {**models()[model], **(QUICK if self.quick else {}), "features": features}
        config = parse_config(StudentConfig, settings, model)
        folder = self._folder / f"{name}-{model}"
        manifest = run_stage(
            "student",
            folder,
            config=config.model_dump(mode="json", exclude={"workers"}),
            seed=0,
            inputs={part.name: manifest_of(part)["key"] for part in (*folders, *mined.values())},
            work=lambda out: train_from_run(config, *folders, out, seed=0, mined=mined),
        )
        return {**_test_figures(folders[0], folder), "label_rows": manifest["counts"]["label_rows"]}

    def _scores(self, name: str) -> Path:
        return self._folder / "scores" / f"{name}.parquet"

    @property
    def _folder(self) -> Path:
        return cache_folder() / "benchmarks" / ("quick-student-quality" if self.quick else "student-quality")


def _test_figures(data: Path, bundle: Path) -> dict[str, Any]:
    dataset = load_dataset(data)
    test = dataset.judgments.filter(pl.col("split") == "test").sort("query_id", "item_id")
    probs = open_bundle(bundle).score_pairs(test.select("query", "item_id")).select(dataset.scale.probability_columns)
    frame = test.select("query_id", "query", "item_id", "grade", "language", "split")
    frame = with_system(frame, "system", probs.to_numpy().astype(np.float32), dataset.scale)
    found = evaluate(frame, dataset.scale, systems=["system"], slice_columns=(), resamples=RESAMPLES).metrics
    return {**found["systems"]["system"], "intervals": found["intervals"]["system"], "test_pairs": test.height}


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """What the best student (by the mean AUROC on dev) keeps of the teacher, absolutely, and against both LightGBMs."""
    candidates = [m for m in ("student/pool", "sentence-e5/pool", "sentence-minilm/pool") if mean_of(rows, m)]
    best = max(candidates, key=lambda name: _dev_auroc(rows, name), default="student/pool")
    found = []
    for threshold in THRESHOLDS:
        metric = f"auroc_{threshold}+"
        ours, bm25, teacher = mean_of(rows, best, metric), *(rows.get(n, {}).get(metric) for n in ("bm25", "teacher"))
        kept = None if None in (ours, bm25, teacher) else round((ours - bm25) / (teacher - bm25), 4)  # type: ignore[operator]
        found.append(Target(f"best student, share kept of the teacher's gain over BM25, {metric}", KEPT, ">=", kept))
        found.append(
            Target(f"best student, {metric}", FLOORS[threshold], ">=", None if ours is None else round(ours, 4))
        )
    gaps = rows.get("differences", {})
    for other in ("lightgbm-human", "lightgbm-pool"):
        lows = [gaps[key]["interval"][0] for t in THRESHOLDS if (key := f"{other}, {t}+") in gaps]
        low = round(min(lows), 4) if len(lows) == len(THRESHOLDS) else None
        found.append(Target(f"student/pool less {other}, AUROC 3+ to 5+, lowest end of the intervals", 1e-4, ">=", low))
    return found


def _dev_auroc(rows: Mapping[str, Mapping[str, Any]], name: str) -> float:
    per_seed = [rows[f"{name}/{seed}"]["dev"] for seed in SEEDS]
    return float(np.mean([value for dev in per_seed for key, value in dev.items() if key.startswith("auroc_")]))


if __name__ == "__main__":
    run_main(main)
