"""`pertinent teacher compare`: several teachers on one data set, measured on the same held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.data.build import load_dataset
from pertinent.errors import ConfigError
from pertinent.evaluation import evaluate, training_prior, with_baselines
from pertinent.evaluation.comparison import Settings, differences, with_adjusted
from pertinent.evaluation.evaluate import read_held_out
from pertinent.evaluation.measures import stage_measures
from pertinent.files import read_parquet, write_json, write_parquet
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.evaluate import with_system
from pertinent.pipeline.run import run_pipeline
from pertinent.progress import progress

_BASELINES = ("random", "majority")


def compare_teachers(configs: Sequence[RunConfig], out: Path) -> dict[str, Any]:
    """Train the teacher of each config (or take a finished one) and measure all of them on the same pairs.

    Systems are called by the configs' names. Writes out/scores.parquet and out/comparison.json, which is returned:
    the metrics of `evaluate`, and under "differences" for each teacher its paired difference from the first one, by
    metric: interval, tests by query (p_adjusted by Holm over the teachers) and detectable. Raises ConfigError when two configs share a name or differ in their data.
    """
    names = [config.name for config in configs]
    if len({*names, *_BASELINES}) < len(names) + len(_BASELINES):
        raise ConfigError(
            f"teacher compare: expected a different name in each config, none of {', '.join(_BASELINES)}; found "
            f"{', '.join(names)}"
        )
    keys = [run_pipeline(config, until="data")["stages"]["data"]["key"] for config in configs]
    if differing := [name for name, key in zip(names, keys, strict=True) if key != keys[0]]:
        raise ConfigError(f"teacher compare: expected the same data, seed and split, found others in {differing[0]}")
    manifests = [run_pipeline(config, until="teacher")["stages"] for config in configs]
    first = configs[0]
    scores = _scores(configs, out)
    scale = load_dataset(first.folder / "data").scale
    systems = [*_BASELINES, *names]
    settings = Settings(first.evaluation.intervals, first.evaluation.resamples, seed=first.seed)
    document = evaluate(
        scores,
        scale,
        systems=systems,
        slice_columns=("language",),
        method=settings.method,
        resamples=settings.resamples,
        seed=settings.seed,
    ).metrics
    base, *others = read_held_out(scores, scale, names).systems
    measures = {
        key: measure for key, measure in stage_measures(scale.n_grades).items() if key in _compared(scale.n_grades)
    }
    found = {each.system.name: differences(each, [base], measures, settings)[names[0]] for each in others}
    with_adjusted(list(found.values()), "holm")
    document["differences"], document["correction"] = found, "holm"
    document["seconds"] = {name: found["teacher"]["seconds"] for name, found in zip(names, manifests, strict=True)}
    write_json(out / "comparison.json", document)
    return document


def _compared(n_grades: int) -> list[str]:
    return [*(f"auroc_{shown}+" for shown in range(2, n_grades + 1)), "accuracy", "pair_accuracy", "ndcg@20"]


def _scores(configs: Sequence[RunConfig], out: Path) -> pl.DataFrame:
    """The held-out pairs with the columns of every teacher and of the two baselines."""
    from pertinent.teacher.saving import load_teacher

    first = configs[0]
    dataset = load_dataset(first.folder / "data")
    pairs = dataset.judgments.filter(pl.col("split") != "train")
    prior = training_prior(dataset.judgments.filter(pl.col("split") == "train")["grade"], dataset.scale.n_grades)
    scores = pairs.select("query_id", "query", "item_id", "grade", "language", "split")
    scores = with_baselines(scores, prior, dataset.scale, seed=first.seed)
    for config in configs:
        texts = dict(read_parquet(config.folder / "text" / "items.parquet", ["item_id", "text"]).iter_rows())
        teacher = load_teacher(config.folder / "teacher")
        with progress(f"compare: {config.name}", pairs.height, "pairs") as bar:
            probs = teacher.score(pairs["query"].to_list(), [texts[item] for item in pairs["item_id"]], bar)
        scores = with_system(scores, config.name, probs, dataset.scale)
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(out / "scores.parquet", scores)
    return scores
