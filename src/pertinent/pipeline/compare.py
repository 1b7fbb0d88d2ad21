"""`pertinent teacher compare`: several teachers on one data set, measured on the same held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.data.build import load_dataset, load_scale
from pertinent.errors import ConfigError, PertinentError
from pertinent.evaluation import evaluate, training_prior, with_baselines
from pertinent.evaluation.comparison import Settings, differences, with_adjusted
from pertinent.evaluation.evaluate import read_held_out
from pertinent.evaluation.measures import stage_measures
from pertinent.files import write_json, write_parquet
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.evaluate import with_system
from pertinent.pipeline.run import run_pipeline
from pertinent.progress import progress, say
from pertinent.teacher.trackers import require_trackers
from pertinent.text.item_texts import ItemTexts

_BASELINES = ("random", "majority")


def compare_teachers(configs: Sequence[RunConfig], out: Path) -> dict[str, Any]:
    """Train the teacher of each config (or take a finished one) and measure all of them on the same pairs.

    Systems are called by the configs' names. Writes out/scores.parquet and out/comparison.json, which is returned:
    the metrics of `evaluate`; under "differences" for each teacher its paired difference from the "reference", the first
    one that was trained, by metric: interval, tests by query (p_adjusted by Holm over the teachers) and detectable; under "failed" the
    message of each config whose teacher could not be trained, which the others do not wait for. Raises ConfigError when
    two configs share a name or differ in their data, when a tracker is not installed, or when no teacher could be trained.
    """
    names = [config.name for config in configs]
    if len({*names, *_BASELINES}) < len(names) + len(_BASELINES):
        raise ConfigError(
            f"teacher compare: expected a different name in each config, none of {', '.join(_BASELINES)}; found "
            f"{', '.join(names)}"
        )
    for config in configs:
        require_trackers(config.teacher.trackers)
    keys = [run_pipeline(config, until="data")["stages"]["data"]["key"] for config in configs]
    if differing := [name for name, key in zip(names, keys, strict=True) if key != keys[0]]:
        raise ConfigError(f"teacher compare: expected the same data, seed and split, found others in {differing[0]}")
    seconds, failed = _train_each(configs)
    trained = [config for config in configs if config.name in seconds]
    if not trained:
        raise ConfigError(f"teacher compare: no teacher could be trained: {names[0]}: {failed[names[0]]}")
    first = trained[0]
    if first.name != names[0]:
        say(f"compare: {names[0]} could not be trained, so the differences are from {first.name}")
    scores = _scores(trained, out)
    scale = load_scale(first.folder / "data")
    systems = [*_BASELINES, *seconds]
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
    base, *others = read_held_out(scores, scale, list(seconds)).systems
    measures = {
        key: measure for key, measure in stage_measures(scale.n_grades).items() if key in _compared(scale.n_grades)
    }
    found = {each.system.name: differences(each, [base], measures, settings)[first.name] for each in others}
    with_adjusted(list(found.values()), "holm")
    document["differences"], document["correction"] = found, "holm"
    document |= {"reference": first.name, "seconds": seconds, "failed": failed}
    write_json(out / "comparison.json", document)
    return document


def _train_each(configs: Sequence[RunConfig]) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each teacher that is trained, and the message of each that could not be, by name."""
    seconds, failed = {}, {}
    for config in configs:
        try:
            seconds[config.name] = run_pipeline(config, until="teacher")["stages"]["teacher"]["seconds"]
        except PertinentError as error:
            failed[config.name] = str(error)
            say(f"compare: {config.name} is left out: {error}")
    return seconds, failed


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
        item_texts = ItemTexts.read(config.folder / "text").of_pairs(pairs)
        teacher = load_teacher(config.folder / "teacher")
        with progress(f"compare: {config.name}", pairs.height, "pairs") as bar:
            probs = teacher.score(pairs["query"].to_list(), item_texts, bar)
        scores = with_system(scores, config.name, probs, dataset.scale)
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(out / "scores.parquet", scores)
    return scores
