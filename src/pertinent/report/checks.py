"""Whether the files of a run can be put on one page: what is damaged is refused, what does not fit together is told."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.errors import DataError
from pertinent.report import numbers
from pertinent.report.run_files import RunFiles, mapping


def check_scores(run: RunFiles, path: Path) -> None:
    """Raise DataError where a grade of scores.parquet is not of the scale, or a system's score is no number.

    path: of the file, for the message.
    """
    top = run.n_grades - 1
    wrong = run.scores.filter(~pl.col("grade").is_between(0, top).fill_null(False))
    if wrong.height:
        query, item, grade = wrong.select("query_id", "item_id", "grade").row(0)
        raise DataError(f"{path}: query {query}, item {item}: grade must be 0-{top}, got {grade}")
    for system in run.scored_systems:
        columns = [system, *run.probability_columns(system)]
        for column in columns:
            if not run.scores.schema[column].is_numeric():
                raise DataError(f"{path}: column {column}: expected numbers, found {run.scores.schema[column]}")


def doubts(run: RunFiles) -> list[str]:
    """A line for each thing that the page shows and that does not fit the rest of it."""
    return [*_other_pairs(run), *_holes(run)]


def _other_pairs(run: RunFiles) -> list[str]:
    """Where metrics.json and scores.parquet are not of the same pairs."""
    stated = numbers.measured(mapping(run.metrics.get("counts")).get("n_pairs"))
    if stated is None or not run.scores.height or stated == run.scores.height:
        return []
    return [
        f"metrics.json is of {numbers.count(stated)} pairs and scores.parquet has {run.scores.height:,}: one of them is "
        "of another evaluation, so tables and plots by score or query are not of the same pairs as the figures"
    ]


def _holes(run: RunFiles) -> list[str]:
    found = []
    for system in run.scored_systems:
        columns = [system, *run.probability_columns(system)]
        there = pl.all_horizontal(pl.col(column).is_finite().fill_null(False) for column in columns)
        n_holes = run.scores.select(pl.col(columns).cast(pl.Float64)).filter(~there).height
        if n_holes:
            found.append(
                f"{system}: {n_holes:,} of {run.scores.height:,} pairs in scores.parquet have a score or probability that "
                "is missing or not finite, so nothing is drawn from them"
            )
    return found
