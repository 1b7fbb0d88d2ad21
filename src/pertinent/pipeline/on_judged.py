"""A run's scores laid on the judged pairs: joined by query and item, checked, and what is missing on either side told."""

from __future__ import annotations

import numpy as np
import polars as pl

from pertinent.errors import DataError
from pertinent.evaluation.classification import most_likely
from pertinent.evaluation.metrics import Judgments
from pertinent.evaluation.systems import Retrieved, Scored, SystemScores
from pertinent.pipeline.judged import JudgedPairs, RunScores, probability_columns


def coded(pairs: JudgedPairs) -> Judgments:
    """The judgments by query number. pairs: sorted by query_id."""
    queries = pairs.frame["query_id"].rle_id().to_numpy().astype(np.int64)
    grades = pairs.frame["grade"].to_numpy().astype(np.int64)
    return Judgments(queries, grades, int(queries[-1]) + 1, pairs.n_grades)


def keyed(run: RunScores, pairs: JudgedPairs) -> pl.DataFrame:
    """The run's rows under the judgments' query_id: by id where both have it, else by the text of the query."""
    frame = run.frame
    if "query_id" in frame.columns and (
        "query" not in frame.columns or frame["query_id"].is_in(pairs.frame["query_id"].implode()).any()
    ):
        return frame
    if "query" not in frame.columns or "query" not in pairs.frame.columns:
        needed = "query" if "query" not in frame.columns else "query_id"
        raise DataError(f"{run.shown}: expected a column {needed} to find the judgments of {pairs.shown}, found none")
    ids = pairs.frame.select("query", pl.col("query_id").alias("_id")).unique("query", keep="first")
    joined = frame.join(ids, on="query", how="left", maintain_order="left")
    # A query that is not judged keeps a name of its own.
    return joined.with_columns(pl.coalesce("_id", "query").alias("query_id")).drop("_id")


def scored_on(run: RunScores, pairs: JudgedPairs, judgments: Judgments, notes: list[str]) -> Scored:
    """The run on the judged pairs. What it does not hold counts as not retrieved: below all that it holds."""
    frame = keyed(run, pairs)
    repeated = frame.filter(pl.struct("query_id", "item_id").is_duplicated())
    if repeated.height:
        query, item = repeated.select("query_id", "item_id").row(0)
        raise DataError(f"{run.shown}: item {item} of query {query}: expected one score a pair, found several")
    codes = pairs.frame.select("query_id", pl.Series("_query", judgments.queries)).unique("query_id", keep="first")
    rows = pairs.frame.select("query_id", "item_id").with_row_index("_row")
    kept = frame.join(codes, on="query_id", how="inner", maintain_order="left")
    kept = kept.join(rows, on=["query_id", "item_id"], how="left", maintain_order="left")
    if kept.is_empty():
        raise DataError(f"{run.shown}: no query of {pairs.shown} is in it")
    wrong = kept.filter(~pl.col("score").is_finite().fill_null(False))
    if wrong.height:
        query, item, score = wrong.select("query_id", "item_id", "score").row(0)
        told = "missing" if score is None else score
        raise DataError(
            f"{run.shown}: query {query}, item {item}: score must be a finite number, got {told} ({wrong.height} such rows)"
        )
    retrieved = Retrieved(
        kept["_query"].to_numpy().astype(np.int64),
        kept["_row"].cast(pl.Int64).fill_null(-1).to_numpy(),
        kept["score"].to_numpy().astype(np.float64),
    )
    _tell_what_is_missing(run, pairs, judgments, retrieved, notes)
    return _on_judged_pairs(run, kept, judgments, retrieved, notes)


def _on_judged_pairs(
    run: RunScores, kept: pl.DataFrame, judgments: Judgments, retrieved: Retrieved, notes: list[str]
) -> Scored:
    has_row = retrieved.rows >= 0
    n_missing = judgments.queries.size - int(has_row.sum())
    scores = np.full(judgments.queries.size, retrieved.scores.min() - 1.0)
    scores[retrieved.rows[has_row]] = retrieved.scores[has_row]
    probs = None
    columns = [f"p_{k}" for k in range(1, judgments.n_grades + 1)]
    found = probability_columns(kept)
    if found and set(found) != set(columns):
        raise DataError(
            f"{run.shown}: expected p_1..p_{judgments.n_grades} for {judgments.n_grades} grades, found {', '.join(found)}"
        )
    if found and n_missing:
        notes.append(
            f"{run.name}: {n_missing} judged pairs have no probabilities, so measures of grades are not defined"
        )
    elif found:
        given = kept.filter(pl.col("_row").is_not_null())
        probs = np.empty((scores.size, judgments.n_grades))
        probs[given["_row"].to_numpy()] = given.select(
            pl.col(columns).cast(pl.Float64).fill_null(float("nan"))
        ).to_numpy()
        wrong = ~((probs >= 0).all(axis=1) & (np.abs(probs.sum(axis=1) - 1) <= 1e-3))
        if wrong.any():
            raise DataError(
                f"{run.shown}: probabilities must be at least 0 and sum to 1, found others on {wrong.sum()} pairs"
            )
    predicted = None if probs is None else most_likely(probs)
    system = SystemScores(run.name, scores, probs, predicted, probs is not None)
    if (scores == scores[0]).all():
        notes.append(f"{run.name}: all scores are equal, so its ranking figures are those of chance")
    exact = n_missing == 0 and has_row.all()
    return Scored(judgments, system, None if exact else retrieved)


def _tell_what_is_missing(
    run: RunScores, pairs: JudgedPairs, judgments: Judgments, retrieved: Retrieved, notes: list[str]
) -> None:
    n_missing = judgments.queries.size - int((retrieved.rows >= 0).sum())
    absent = judgments.n_queries - np.unique(retrieved.queries).size
    n_unjudged = int((retrieved.rows < 0).sum())
    if n_missing:
        queries = f", {absent} queries as a whole" if absent else ""
        notes.append(
            f"{run.name}: {n_missing} of {pairs.frame.height} judged pairs are not in it{queries}: counted as not retrieved"
        )
    if n_unjudged:
        notes.append(f"{run.name}: {n_unjudged} of its {retrieved.rows.size} items of judged queries are not judged")
