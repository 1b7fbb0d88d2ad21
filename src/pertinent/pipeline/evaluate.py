"""The evaluation stage: every system's scores on the same held-out judgments, then the metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.bundle.scorer import Scorer, open_bundle
from pertinent.data.build import load_dataset
from pertinent.errors import DataError
from pertinent.evaluation import evaluate, training_prior, with_baselines, write_evaluation
from pertinent.evaluation.classification import auroc, expected_gain
from pertinent.evaluation.fidelity import with_fidelity
from pertinent.evaluation.intervals import Method
from pertinent.evaluation.slices import ITEM_POPULARITY
from pertinent.evaluation.suspects import suspects, write_suspects
from pertinent.features.corpus import FIELDS
from pertinent.features.lexical import bm25_scores
from pertinent.files import write_parquet
from pertinent.pipeline.agreement import with_agreement
from pertinent.pipeline.config import EvaluationConfig
from pertinent.pipeline.differences import with_differences
from pertinent.pipeline.judged import JudgedPairs, RunScores, probability_columns, read_run_scores
from pertinent.pipeline.on_judged import keyed
from pertinent.pipeline.slicing import with_slice_columns
from pertinent.progress import progress
from pertinent.teacher.backbones import Backbone
from pertinent.text.item_texts import ItemTexts
from pertinent.types import Scale, StageResult

_EMBEDDED_TOKENS = 128  # of a query or an item text

SYSTEMS = ("random", "majority", "bm25", "embedding", "teacher", "student")


def evaluate_run(
    config: EvaluationConfig,
    data: Path,
    text: Path,
    teacher: Path,
    student: Path,
    out: Path,
    *,
    backbone: Backbone,
    seed: int,
) -> StageResult:
    """Score the dev and test judgments with all six systems; write scores.parquet, the metrics files and suspects.csv.

    bm25 is BM25 on the title, on the body or their sum, whichever has the best dev AUROC. embedding is the cosine of
    the teacher's own encoder before any tuning (``backbone``).
    """
    from pertinent.teacher.embed import cosine_scores
    from pertinent.teacher.saving import load_teacher

    dataset = load_dataset(data)
    scale = dataset.scale
    pairs = dataset.judgments.filter(pl.col("split") != "train")
    queries, item_texts = pairs["query"].to_list(), ItemTexts.read(text).of_pairs(pairs)
    bundle = open_bundle(student)
    bm25, bm25_fields = _bm25(pairs, bundle)

    labeller = load_teacher(teacher)
    embedding = cosine_scores(backbone, queries, item_texts, _EMBEDDED_TOKENS)
    with progress("evaluation: teacher", pairs.height, "pairs") as bar:
        teacher_probs = labeller.score(queries, item_texts, bar)
    student_probs = bundle.score_pairs(pairs.select("query", "item_id")).select(scale.probability_columns).to_numpy()

    scores = pairs.select("query_id", "query", "item_id", "grade", "language", "split")
    prior = training_prior(dataset.judgments.filter(pl.col("split") == "train")["grade"].to_numpy(), scale.n_grades)
    scores = with_baselines(scores, prior, scale, seed=seed)
    scores = scores.with_columns(pl.Series("bm25", bm25), pl.Series("embedding", embedding))
    for name, probs in (("teacher", teacher_probs), ("student", student_probs)):
        scores = with_system(scores, name, probs, scale)
    scores = with_slice_columns(scores, dataset, config.slices)
    write_parquet(out / "scores.parquet", scores)
    found = evaluate(
        scores,
        scale,
        systems=SYSTEMS,
        slice_columns=config.slices,
        method=config.intervals,
        resamples=config.resamples,
        seed=seed,
    )
    metrics = with_differences(found.metrics, scores, scale)
    metrics = with_agreement(metrics, scores, dataset.judgments, scale, systems=SYSTEMS)
    more = () if dataset.log is None else (ITEM_POPULARITY,)
    columns = tuple(dict.fromkeys((*config.slices, *more)))
    metrics = with_fidelity(metrics, with_slice_columns(scores, dataset, columns), scale, columns=columns)
    write_evaluation(dataclasses.replace(found, metrics=metrics), out)
    # The teacher is trained on neither split, so its probabilities of both are out of fold.
    pairs_and_splits = pairs.select("query", "item_id", "grade", "language", "split")
    n_suspects = write_suspects(suspects(pairs_and_splits, teacher_probs, scale), out / "suspects.csv")
    facts = {"bm25_fields": bm25_fields, "embedding": backbone.description, "suspected_judgments": n_suspects}
    return StageResult(metrics["counts"] | facts)


def with_system(scores: pl.DataFrame, name: str, probs: NDArray[np.float32], scale: Scale) -> pl.DataFrame:
    """Add a system's expected gain, by which it ranks, and its grade probabilities."""
    columns = [pl.Series(f"{name}.{p}", probs[:, k]) for k, p in enumerate(scale.probability_columns)]
    return scores.with_columns(pl.Series(name, expected_gain(probs)), *columns)


def evaluate_scores(
    run: Path, data: Path, *, method: Method = "bootstrap", resamples: int, seed: int = 0
) -> dict[str, object]:
    """Metrics of a stranger's scores on a run's held-out judgments.

    run: a TREC run, or CSV, JSONL or Parquet with query or query_id, item_id and p_1..p_n, or score (higher is better);
    with both the score orders. data: the data folder of a run, or the run folder. Every test judgment needs its scores;
    where there are no probabilities every dev judgment does too, for grades then come from a map of the score that is
    fitted on dev. Raises DataError in one line when the file cannot be read or a held-out pair has no score.
    """
    dataset = load_dataset(data / "data" if (data / "data" / "dataset.json").is_file() else data)
    scale = dataset.scale
    given = read_run_scores(run)
    wanted = _score_columns(given, scale)
    splits = ["dev", "test"] if wanted == ["score"] else ["test"]
    pairs = dataset.judgments.filter(pl.col("split").is_in(splits))
    rows = keyed(given, JudgedPairs(str(data), pairs, scale.n_grades))
    repeated = rows.filter(pl.struct("query_id", "item_id").is_duplicated())
    if repeated.height:
        raise DataError(f"{run}: expected one row a pair, found {_pair(repeated)} more than once")
    joined = pairs.join(rows.select("query_id", "item_id", *wanted), on=["query_id", "item_id"], how="left")
    for split in reversed(splits):
        _check_scored(run, joined.filter(pl.col("split") == split), split, wanted)
    columns = [pl.col(name).alias(f"scores.{name}") for name in scale.probability_columns if name in wanted]
    scores = joined.select(
        "query_id", "query", "item_id", "grade", "language", "split", pl.col("score").alias("scores"), *columns
    )
    return evaluate(scores, scale, systems=["scores"], method=method, resamples=resamples, seed=seed).metrics


def is_dataset(folder: Path) -> bool:
    """Whether ``folder`` is a data folder, or a run folder that has one."""
    return any((place / "dataset.json").is_file() for place in (folder, folder / "data"))


def _score_columns(given: RunScores, scale: Scale) -> list[str]:
    """The score, and the probabilities of the grades where there are any."""
    names, found = list(scale.probability_columns), probability_columns(given.frame)
    if not found:
        return ["score"]
    if absent := [name for name in names if name not in found]:
        raise DataError(
            f"{given.shown}: expected probabilities of {scale.n_grades} grades, found no {', '.join(absent)}"
        )
    if more := [name for name in found if name not in names]:
        raise DataError(
            f"{given.shown}: expected probabilities of {scale.n_grades} grades, found {', '.join(more)} too"
        )
    return ["score", *names]


def _check_scored(table: Path, pairs: pl.DataFrame, split: str, wanted: list[str]) -> None:
    missing = pairs.filter(pl.any_horizontal(pl.col(wanted).is_null()))
    if missing.height:
        why = "" if split == "test" else "; without p_1.. the map from scores to grades is fitted on dev"
        raise DataError(
            f"{table}: expected {' and '.join(wanted)} for each of {pairs.height:,} {split} pairs, "
            f"found none for {missing.height:,}, first {_pair(missing)}{why}"
        )


def _pair(rows: pl.DataFrame) -> str:
    query = rows["query" if "query" in rows.columns else "query_id"][0]
    return f"({query!r}, {rows['item_id'][0]})"


def _bm25(pairs: pl.DataFrame, bundle: Scorer) -> tuple[NDArray[np.float64], str]:
    """The best of BM25 on the title, on the body and their sum, by mean AUROC on dev."""
    by_field = {field: np.empty(pairs.height) for field in FIELDS}
    indexed = pairs.with_row_index("row")
    for (query,), group in indexed.group_by(["query"], maintain_order=True):
        items = bundle.lexical.take(bundle.row_of.find(group["item_id"].to_list()))
        for field in FIELDS:
            by_field[field][group["row"].to_numpy()] = bm25_scores(str(query), items, bundle.statistics, field)
    candidates = {**by_field, "+".join(FIELDS): sum(by_field.values(), np.zeros(pairs.height))}
    dev = (pairs["split"] == "dev").to_numpy()
    grades = pairs["grade"].to_numpy()[dev]

    def quality(name: str) -> float:
        areas = [auroc(grades >= k, candidates[name][dev]) for k in range(1, bundle.scale.n_grades)]
        return float(np.mean([area for area in areas if area is not None]))

    if not dev.any():
        raise DataError("evaluation: expected judgments in split dev, found none")
    best = max(candidates, key=quality)
    return candidates[best], best
