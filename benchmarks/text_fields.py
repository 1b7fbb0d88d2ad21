"""What each field of the item text is worth to the teacher: the paper's ablation, on MSRD, ESCI's small set and CxC.

    python benchmarks/text_fields.py --rows 'msrd/*/0'

MSRD (6,000 training pairs of a seeded choice of queries, pairs of 96 tokens, 400 test queries, seeds 0 to 2):
    msrd/STEP/SEED          the teacher retrained at each step, which adds fields to those before it: title; overview;
                            links (genres, director, actors, characters); tags (its boards); engaged (queries that the
                            log gives an item, cross-fitted). MSRD has no log of clicks: its log is the judgments of all
                            training queries, some 50 times the pairs that the teacher is trained on
    msrd/engaged-own/SEED   the control: a log of the pairs alone that the teacher is trained on
    msrd/field-dropout/SEED the teacher on all fields, each left out of a training pair by chance; then each field, and
                            all but the title, taken out of the test items: leave-one-out, and missing fields
    msrd/no-dropout/SEED    msrd/engaged/SEED on the same test items with fields missing
ESCI (five folds by query): esci/title/FOLD against esci/all/FOLD. CxC: cxc/one/SEED against cxc/four/SEED captions.
msrd/differences, esci/differences and cxc/differences compare the rows above, whose scores lie in the user's cache: each
difference is of mean AUROCs over seeds or folds, its interval from paired resamples of queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
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
from homedepot import RESAMPLES, manifest_of
from pertinent.config import parse_config
from pertinent.data.build import build_dataset, load_dataset
from pertinent.errors import DataError
from pertinent.evaluation import evaluate, paired_difference
from pertinent.evaluation.metrics import relevant_grade
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.evaluation.statistics import Statistic
from pertinent.files import cache_folder, read_parquet, write_json, write_parquet
from pertinent.pipeline import RunConfig, load_run_config
from pertinent.pipeline.evaluate import with_system
from pertinent.pipeline.field_stages import FIELD_STAGES
from pertinent.pipeline.source import source_hash
from pertinent.pipeline.stage import run_stage
from pertinent.pipeline.text import text_stage
from pertinent.progress import progress
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.rows import training_judgments
from pertinent.teacher.saving import load_teacher
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult

SEEDS = (0, 1, 2)
FOLDS = (0, 1, 2, 3, 4)
CXC_SEEDS = (0, 1)
CXC_CAPTIONS = {"one": 1, "four": 4}
# Step -> the fields that it adds, each with its budget in tokens.
STEPS: dict[str, dict[str, int]] = {
    "title": {"title": 12},
    "overview": {"description": 24},
    "links": {"genres": 6, "director": 5, "actors": 8, "characters": 6},
    "tags": {"boards": 10},
    "engaged": {"engaged_queries": 12},
}
BUDGETS = {name: tokens for fields in STEPS.values() for name, tokens in fields.items()}
USER_ACTIONS = ("boards", "engaged_queries")
# What is taken out of the test items -> the fields that stay.
MISSING: dict[str, tuple[str, ...]] = {
    **{f"without_{step}": tuple(f for f in BUDGETS if f not in added) for step, added in STEPS.items()},
    "without_user_actions": tuple(f for f in BUDGETS if f not in USER_ACTIONS),
    "title_alone": ("title",),
}
MSRD_TRAIN_ROWS = 6_000
MSRD_TEACHER = {"max_tokens": 96, "max_query_tokens": 16, "epochs": 2, "max_train_rows": MSRD_TRAIN_ROWS}
MSRD_TEXT_TOKENS = 76  # of the 96, beside the query and the special tokens
FIELD_DROPOUT = 0.3
N_TEST_QUERIES, N_DEV_QUERIES = 400, 100
COLUMNS = ("train_rows", "test_queries", "auroc_2+", "auroc_3+", "auroc_4+", "pair_accuracy", "ndcg@20", "dev_auroc")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows("text_fields", __doc__, lambda quick: Bench(quick=quick).rows(), targets, columns=COLUMNS, seeds=SEEDS)


class Bench:
    """The rows by name; a data set is prepared when a row asks for it."""

    def __init__(self, *, quick: bool) -> None:
        self._quick = quick

    def rows(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """name -> what measures it."""
        made: dict[str, Callable[[], dict[str, Any]]] = {}
        for seed in SEEDS:
            for step in STEPS:
                made[f"msrd/{step}/{seed}"] = lambda step=step, seed=seed: self._step(step, seed)  # type: ignore[misc]
            made[f"msrd/engaged-own/{seed}"] = lambda seed=seed: self._engaged_own(seed)  # type: ignore[misc]
            made[f"msrd/field-dropout/{seed}"] = lambda seed=seed: self._missing("field-dropout", seed)  # type: ignore[misc]
            made[f"msrd/no-dropout/{seed}"] = lambda seed=seed: self._missing("engaged", seed)  # type: ignore[misc]
        made["msrd/differences"] = self._msrd_differences
        for fields in ("title", "all"):
            for fold in FOLDS:
                made[f"esci/{fields}/{fold}"] = lambda fields=fields, fold=fold: self._esci(fields, fold)  # type: ignore[misc]
        made["esci/differences"] = lambda: {"all-title": self._difference("esci", "all", "title", FOLDS)}
        for name in CXC_CAPTIONS:
            for seed in CXC_SEEDS:
                made[f"cxc/{name}/{seed}"] = lambda name=name, seed=seed: self._cxc(name, seed)  # type: ignore[misc]
        made["cxc/differences"] = lambda: {"four-one": self._difference("cxc", "four", "one", CXC_SEEDS)}
        return made

    # MSRD

    @cached_property
    def _msrd(self) -> JudgedSet:
        return self._msrd_set("msrd")

    def _msrd_set(self, name: str, own_log: tuple[int, int] | None = None) -> JudgedSet:
        limits = (8, 12) if self._quick else (N_DEV_QUERIES, N_TEST_QUERIES)
        tree = {
            "name": name,
            "data": {"reader": "msrd", "path": "${PERTINENT_DATA}/msrd", "languages": ["en"]},
            "mine": {"k": 1, "max_queries": 10},  # judged impressions have no users to count
        }
        return JudgedSet.prepared(tree, self._quick, limits, own_log)

    def msrd_engaged(self, seed: int) -> tuple[JudgedSet, Path, Path]:
        """MSRD, the text stage of all fields, and the teacher of msrd/engaged/SEED, trained where there is none."""
        return self._msrd, self._msrd_text(list(BUDGETS)), self._train_msrd("engaged", seed)

    def _engaged_own(self, seed: int) -> dict[str, Any]:
        judged = self._msrd_set(f"msrd-own-{seed}", (MSRD_TRAIN_ROWS, seed))
        text = judged.text(BUDGETS, MSRD_TEXT_TOKENS)
        return judged.figures(judged.train("engaged-own", text, MSRD_TEACHER, seed), text, f"engaged-own-{seed}")

    def _msrd_text(self, fields: Sequence[str]) -> Path:
        return self._msrd.text({name: BUDGETS[name] for name in fields}, MSRD_TEXT_TOKENS)

    def _train_msrd(self, name: str, seed: int) -> Path:
        steps = list(STEPS)
        last = steps.index(name) if name in steps else len(steps) - 1
        fields = [field for step in steps[: last + 1] for field in STEPS[step]]
        changes: dict[str, Any] = dict(MSRD_TEACHER)
        if name == "field-dropout":
            changes["augmentation"] = {"field_dropout": FIELD_DROPOUT}
        return self._msrd.train(name, self._msrd_text(fields), changes, seed)

    def _step(self, step: str, seed: int) -> dict[str, Any]:
        teacher = self._train_msrd(step, seed)
        fields = [field for added in list(STEPS.values())[: list(STEPS).index(step) + 1] for field in added]
        return {"fields": fields, **self._msrd.figures(teacher, self._msrd_text(fields), f"{step}-{seed}")}

    def _missing(self, name: str, seed: int) -> dict[str, Any]:
        """The teacher on all fields, and the same on test items that lack some of them."""
        teacher = self._train_msrd(name, seed)
        found = self._msrd.figures(teacher, self._msrd_text(list(BUDGETS)), f"{name}-{seed}")
        main = f"auroc_{relevant_grade(self._msrd.dataset.scale.n_grades) + 1}+"
        lacking = {}
        for what, fields in MISSING.items():
            part = self._msrd.figures(teacher, self._msrd_text(fields), f"{name}-{what}-{seed}")
            lacking[what] = {"auroc": part[main], "less_than_whole": round(found[main] - part[main], 4)}
        return {**found, "missing": lacking}

    def _msrd_differences(self) -> dict[str, Any]:
        steps = list(STEPS)
        found = {f"{step}-{before}": self._difference("msrd", step, before, SEEDS) for before, step in pairwise(steps)}
        found["user_actions-links"] = self._difference("msrd", "engaged", "links", SEEDS)
        found["engaged_own-tags"] = self._difference("msrd", "engaged-own", "tags", SEEDS)
        found["field_dropout-none"] = self._difference("msrd", "field-dropout", "engaged", SEEDS)
        for what in MISSING:
            pair = (f"field-dropout-{what}", f"engaged-{what}")
            found[f"field_dropout-none, {what}"] = self._difference("msrd", *pair, SEEDS)
            found[f"whole-{what}, field dropout"] = self._difference("msrd", "field-dropout", pair[0], SEEDS)
        return found

    # ESCI and CxC

    def _esci(self, fields: str, fold: int) -> dict[str, Any]:
        config = load_run_config(ROOT / "configs" / "esci_us_small.yaml", [f"data.esci.fold={fold}"])
        judged = JudgedSet.prepared(_tree_of(config, f"esci-{fold}"), self._quick, (4, 4) if self._quick else None)
        chosen = {f.name: f.tokens for f in config.text.fields if fields == "all" or f.name == "title"}
        return judged.measured(fields, fold, 0, chosen, config)

    def _cxc(self, name: str, seed: int) -> dict[str, Any]:
        config = load_run_config(ROOT / "configs" / "cxc.yaml", [f"data.cxc.captions={CXC_CAPTIONS[name]}"])
        limits = (40, 40) if self._quick else None
        judged = JudgedSet.prepared(_tree_of(config, f"cxc-{name}"), self._quick, limits)
        return judged.measured(name, seed, seed, {f.name: f.tokens for f in config.text.fields}, config)

    def _difference(self, name: str, system: str, baseline: str, runs: Sequence[int]) -> dict[str, Any]:
        """Of mean AUROCs over seeds or folds, from the scores that their rows left; the first run alone with --quick."""
        runs = runs[:1] if self._quick else runs
        frames: dict[tuple[str, int], pl.DataFrame] = {}
        for run in runs:
            ours, theirs = (_read_scores(name, f"{s}-{run}", self._quick) for s in (system, baseline))
            # Some pairs of CxC are left out with more captions, those whose query is one of them.
            frames[system, run] = ours.join(theirs, on=["query_id", "item_id"], how="semi")
            frames[baseline, run] = theirs.join(ours, on=["query_id", "item_id"], how="semi")
        number = {q: i for i, q in enumerate(sorted({q for frame in frames.values() for q in frame["query_id"]}))}
        statistics = {
            s: Mean([_auroc_of(frames[s, run], number) for run in runs if frames[s, run].height])
            for s in (system, baseline)
        }
        paired = paired_difference(statistics[system], statistics[baseline], resamples=RESAMPLES)
        each = [_auroc_gap(frames[system, run], frames[baseline, run]) for run in runs]
        return {"difference": paired.difference, "interval": paired.interval, "each": each, "n_queries": len(number)}


@dataclass(frozen=True)
class Mean:
    """The mean of several statistics over the same queries."""

    parts: Sequence[Statistic]

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return self.parts[0].n_queries

    def under(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean under each row of query weights."""
        return np.asarray(np.mean([part.under(weights) for part in self.parts], axis=0))

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Queries that bear on one of them, (Q,) bool."""
        return np.asarray(np.any([part.counted for part in self.parts], axis=0), dtype=np.bool_)

    def influence(self) -> NDArray[np.float64]:
        """(Q,) float64: the mean of theirs."""
        return np.asarray(np.mean([part.influence() for part in self.parts], axis=0))

    def exchanged(self, other: Mean, swaps: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of theirs, each with its counterpart, (B,) float64."""
        pairs = zip(self.parts, other.parts, strict=True)
        return np.asarray(np.mean([part.exchanged(its, swaps) for part, its in pairs], axis=0))


@dataclass(frozen=True)
class JudgedSet:
    """A data set in the user's cache: its data stage, with fewer held-out queries where limits are given, and mined fields."""

    config: RunConfig
    folder: Path
    quick: bool
    sources: tuple[Path, ...]

    @classmethod
    def prepared(
        cls,
        tree: dict[str, Any],
        quick: bool,
        limits: tuple[int, int] | None,
        own_log: tuple[int, int] | None = None,
    ) -> JudgedSet:
        """Make the stages, or take them where they are up to date.

        limits: dev and test queries, the first by id. own_log: training rows and seed of a teacher; what is mined is then
        the log of the queries of those rows alone.
        """
        file = cache_folder() / "benchmarks" / "text_fields" / f"{tree['name']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, tree)  # JSON is YAML: the loader expands ${PERTINENT_DATA}
        sections = [name for name in FIELD_STAGES if name in tree]
        if "mine" in tree and "mine" not in sections:
            raise DataError(f"{tree['name']}: expected the stage mine, found no such stage in this version")
        config = load_run_config(file)
        folder = file.parent / f"{'quick-' if quick else ''}{tree['name']}"
        whole = folder / "whole"
        made = run_stage(
            "data",
            whole,
            config=config.data.model_dump(mode="json"),
            seed=config.seed,
            inputs={"source": source_hash(config.data)},
            work=lambda out: build_dataset(config.data, out),
        )
        mined = whole
        if own_log is not None:
            mined = folder / "own"
            run_stage(
                "own",
                mined,
                config={"rows": own_log[0]},
                seed=own_log[1],
                inputs={"data": made["key"]},
                work=lambda out: _own_log(whole, out, *own_log),
            )
        for name in sections:
            section, stage = getattr(config, name), FIELD_STAGES[name]()
            run_stage(
                name,
                folder / name,
                config=section.model_dump(mode="json"),
                seed=config.seed,
                inputs={"data": manifest_of(mined)["key"]},
                work=lambda out, section=section, stage=stage: stage.work(section, mined, out, seed=config.seed),  # type: ignore[misc]
            )
        run_stage(
            "sample",
            folder / "data",
            config={"limits": limits},
            seed=0,
            inputs={"data": made["key"]},
            work=lambda out: _sample(whole, out, limits),
        )
        return cls(config, folder, quick, tuple(folder / name for name in sections))

    @cached_property
    def dataset(self) -> Any:
        """Items and the sampled judgments."""
        return load_dataset(self.folder / "data")

    def text(self, fields: Mapping[str, int], max_tokens: int) -> Path:
        """The text stage of these fields and budgets."""
        out = self.folder / f"text-{'-'.join(fields)}"
        chosen = [{"name": name, "tokens": tokens} for name, tokens in fields.items()]
        tree = {**self.config.text.model_dump(mode="json"), "fields": chosen, "max_tokens": max_tokens}
        config = self.config.model_copy(update={"text": parse_config(type(self.config.text), tree, out.name)})
        text_stage(config, self.folder / "data", out, self.sources)
        return out

    def train(self, name: str, text: Path, changes: Mapping[str, Any], seed: int) -> Path:
        """The folder of a teacher of the config with ``changes``; a finished one of the same kind is taken as it is."""
        if self.quick:
            changes = {**changes, "max_train_rows": 64, "epochs": 1}
        tree = {**self.config.teacher.model_dump(mode="json"), **changes}
        config = parse_config(TeacherConfig, tree, name)
        backbone = resolve_backbone(config.backbone)
        data, folder = self.folder / "data", self.folder / f"teacher-{name}-{seed}"
        inputs = {"data": manifest_of(data)["key"], "text": manifest_of(text)["key"], "backbone": backbone.description}

        def work(out: Path) -> StageResult:
            from pertinent.teacher.train import train_teacher

            return train_teacher(config, data, text, out, backbone=backbone, seed=seed)

        run_stage("teacher", folder, config=config.model_dump(mode="json"), seed=seed, inputs=inputs, work=work)
        return folder

    def measured(self, name: str, run: int, seed: int, fields: Mapping[str, int], config: RunConfig) -> dict[str, Any]:
        """Train the config's teacher on these fields and measure it. run: of the row's name, a fold or the seed."""
        text = self.text(fields, config.text.max_tokens)
        return {"fields": list(fields), **self.figures(self.train(name, text, {}, seed), text, f"{name}-{run}")}

    def figures(self, teacher: Path, text: Path, name: str) -> dict[str, Any]:
        """Metrics on the test pairs with intervals. The scores are kept under ``name`` for the rows of differences."""
        test = self.dataset.judgments.filter(pl.col("split") == "test").sort("query_id", "item_id")
        scale = self.dataset.scale
        with progress(f"score {name}", test.height, "pairs") as bar:
            probs = load_teacher(teacher).score(test["query"].to_list(), ItemTexts.read(text).of_pairs(test), bar)
        frame = test.select("query_id", "query", "item_id", "grade", "language", "split")
        frame = with_system(frame, "system", probs, scale)
        found = evaluate(frame, scale, systems=["system"], slice_columns=(), resamples=RESAMPLES).metrics
        relevant = relevant_grade(scale.n_grades)
        kept = test.select("query_id", "item_id", positive=pl.col("grade") >= relevant)
        score = probs[:, relevant:].sum(axis=1, dtype=np.float64)
        set_name = self.folder.name.removeprefix("quick-").partition("-")[0]
        _scores_file(set_name, name, self.quick).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(_scores_file(set_name, name, self.quick), kept.with_columns(score=score))
        manifest = manifest_of(teacher)
        return {
            **found["systems"]["system"],
            "intervals": found["intervals"]["system"],
            "test_queries": test["query_id"].n_unique(),
            "test_pairs": test.height,
            "train_rows": manifest["counts"]["train_rows"],
            "train_seconds": manifest["seconds"],
            "dev_auroc": manifest["counts"]["dev_auroc"],
            "teacher_code": manifest["code"],
            "teacher_date": manifest["created_at"][:10],
            "text_tokens_mean": manifest_of(text)["counts"]["tokens_mean"],
        }


def _sample(whole: Path, out: Path, limits: tuple[int, int] | None) -> StageResult:
    """The data stage's folder with the pairs of the first dev and test queries by id; train is whole."""
    _copy(whole, out, without="judgments.parquet")
    judgments = read_parquet(whole / "judgments.parquet")
    for split, limit in zip(("dev", "test"), limits or (), strict=False):
        inside = pl.col("split") == split
        kept = judgments.filter(inside)["query_id"].unique().sort().head(limit)
        judgments = judgments.filter(~inside | pl.col("query_id").is_in(kept.implode()))
    write_parquet(out / "judgments.parquet", judgments)
    return StageResult({split: judgments.filter(pl.col("split") == split).height for split in ("train", "dev", "test")})


def _own_log(whole: Path, out: Path, n_rows: int, seed: int) -> StageResult:
    """The data stage's folder with a log of no query but those that a teacher of so many rows is trained on."""
    _copy(whole, out, without="log.parquet")
    train = training_judgments(read_parquet(whole / "judgments.parquet"), n_rows, seed)
    log = read_parquet(whole / "log.parquet").join(train, on=["query_id", "item_id"], how="semi")
    write_parquet(out / "log.parquet", log)
    return StageResult({"rows": log.height})


def _copy(whole: Path, out: Path, *, without: str) -> None:
    for file in whole.iterdir():
        if file.is_file() and file.name not in (without, "manifest.json"):
            (out / file.name).write_bytes(file.read_bytes())


def _tree_of(config: RunConfig, name: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(config.model_dump_json(include={"data", "text", "teacher"}, exclude_unset=True))
    tree["data"]["path"] = str(config.data.path)
    return {"name": name, **tree}


def _scores_file(name: str, row: str, quick: bool) -> Path:
    folder = cache_folder() / "benchmarks" / "text_fields" / ("quick-scores" if quick else "scores")
    return folder / f"{name}-{row}.parquet"


def _read_scores(name: str, row: str, quick: bool) -> pl.DataFrame:
    file = _scores_file(name, row, quick)
    if not file.is_file():
        raise DataError(f"{name}/differences: expected the scores of {name}/{row}, found none: measure that row first")
    return read_parquet(file)


def _auroc_of(frame: pl.DataFrame, number: Mapping[str, int]) -> PooledAuroc:
    queries = np.array([number[query] for query in frame["query_id"]], dtype=np.int64)
    return PooledAuroc.of(queries, len(number), frame["positive"].to_numpy(), frame["score"].to_numpy())


def _auroc_gap(system: pl.DataFrame, baseline: pl.DataFrame) -> float:
    queries = pl.concat([system["query_id"], baseline["query_id"]]).unique().sort()
    number = {query: i for i, query in enumerate(queries)}
    paired = paired_difference(_auroc_of(system, number), _auroc_of(baseline, number), resamples=0)
    return round(paired.difference or 0.0, 4)


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The two user-action fields together against the step before them."""
    found = rows.get("msrd/differences", {}).get("user_actions-links")
    gain = None if found is None else round(found["difference"], 4)
    low = None if found is None or found["interval"] is None else round(found["interval"][0], 4)
    name = "MSRD, tags and engaged queries, AUROC over the step before them"
    return [Target(name, 0.02, ">=", gain), Target(f"{name}, low end of its interval", 0.0001, ">=", low)]


if __name__ == "__main__":
    run_main(main)
