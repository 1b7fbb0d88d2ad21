"""The human judgments as training rows: target distributions, weights, and the token ids of each epoch's pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.teacher.augmentation import drop_fields, misspell
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.pairs import PairEncoder
from pertinent.text.representation import split_fields


@dataclass(frozen=True)
class TrainingRows:
    """N pairs of each epoch as token ids.

    ids: epoch e has pair i at e * N + i; without augmentation one epoch is stored and stands for all.
    target_probs: (N, n) float32. weights: (N,) float32 of each pair, or None. names: "query -> item_id" of each pair.
    """

    ids: list[list[int]]
    target_probs: NDArray[np.float32]
    weights: NDArray[np.float32] | None
    names: list[str]
    n_cut: int

    @property
    def n_pairs(self) -> int:
        """N."""
        return len(self.names)

    def of_epoch(self, epoch: int, pair: int) -> list[int]:
        """Token ids of a pair in an epoch."""
        return self.ids[(epoch * self.n_pairs + pair) % len(self.ids)]


def training_judgments(judgments: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    """Train judgments; with a limit, those of queries in a seeded order, cut where the limit is reached.

    Raises DataError where all of them have one grade: there is nothing to learn.
    """
    train = judgments.filter(pl.col("split") == "train")
    if limit is not None and train.height > limit:
        queries = train["query_id"].unique().sort()
        order = pl.DataFrame({"query_id": queries.sample(fraction=1.0, shuffle=True, seed=seed)}).with_row_index("rank")
        train = train.join(order, on="query_id").sort("rank", "item_id").head(limit).drop("rank")
    return _of_two_grades(train, "training")


def dev_judgments(judgments: pl.DataFrame) -> pl.DataFrame:
    """Dev judgments. Raises DataError where they have one grade or none: there is nothing to measure or calibrate."""
    return _of_two_grades(judgments.filter(pl.col("split") == "dev"), "dev")


def _of_two_grades(judgments: pl.DataFrame, name: str) -> pl.DataFrame:
    found = judgments["grade"].unique().sort().to_list()
    if len(found) < 2:
        raise DataError(f"teacher: expected {name} judgments of at least two grades, found {found}")
    return judgments


def training_rows(
    judgments: pl.DataFrame,
    item_texts: Sequence[str],
    encoder: PairEncoder,
    config: TeacherConfig,
    n_grades: int,
    seed: int,
) -> TrainingRows:
    """Rows of ``judgments`` (query, item_id, grade, ...); item_texts: what is read of each pair's item."""
    queries = judgments["query"].to_list()
    items = judgments["item_id"].to_list()
    augmentation = config.augmentation
    ids: list[list[int]] = []
    n_cut = 0
    for epoch in range(config.epochs if augmentation.active else 1):
        rng = np.random.default_rng((seed, epoch, 7))
        read, written = queries, list(item_texts)
        if augmentation.misspelling:
            read = [misspell(q, rng) if rng.random() < augmentation.misspelling else q for q in queries]
        if augmentation.field_dropout:
            written = [drop_fields(split_fields(text), augmentation.field_dropout, rng) for text in item_texts]
        encoded = encoder.encode(read, written)
        ids += encoded.rows
        n_cut = max(n_cut, encoded.n_cut)
    targets = target_distributions(judgments, config, n_grades)
    return TrainingRows(
        ids,
        targets,
        balancing_weights(judgments["grade"].to_numpy(), n_grades) if config.class_weights == "balanced" else None,
        [f"{query} -> {item}" for query, item in zip(queries, items, strict=True)],
        n_cut,
    )


def target_distributions(judgments: pl.DataFrame, config: TeacherConfig, n_grades: int) -> NDArray[np.float32]:
    """(N, n) float32 rows summing to 1, as ``config.target`` and ``config.label_smoothing`` say.

    Raises DataError for target raters where a pair has no count of ratings by grade.
    """
    if config.target == "raters":
        targets = _rater_distributions(judgments, n_grades)
    else:
        targets = _between_neighbours(judgments["grade" if config.target == "grade" else "grade_mean"], n_grades)
    smoothed = (1.0 - config.label_smoothing) * targets + config.label_smoothing / n_grades
    return smoothed.astype(np.float32)


def balancing_weights(grades: Sequence[int] | NDArray[np.int64], n_grades: int) -> NDArray[np.float32]:
    """(N,) float32 of mean 1: each grade that occurs weighs the same in all."""
    stored = np.asarray(grades, dtype=np.int64)
    counts = np.bincount(stored, minlength=n_grades)
    weights = stored.size / (np.count_nonzero(counts) * counts[stored])
    return np.asarray(weights, dtype=np.float32)


def _between_neighbours(values: pl.Series, n_grades: int) -> NDArray[np.float64]:
    """A whole value is that grade; one between two grades is shared so that the target's mean is the value."""
    means = values.to_numpy().astype(np.float64)
    below = np.clip(np.floor(means), 0, n_grades - 1).astype(np.int64)
    above = np.minimum(below + 1, n_grades - 1)
    share = means - below
    targets = np.zeros((means.size, n_grades))
    index = np.arange(means.size)
    targets[index, below] += 1.0 - share
    targets[index, above] += share
    return targets


def _rater_distributions(judgments: pl.DataFrame, n_grades: int) -> NDArray[np.float64]:
    counted = judgments["grade_counts"] if "grade_counts" in judgments.columns else None
    if counted is None or counted.null_count():
        missing = judgments.height if counted is None else counted.null_count()
        raise DataError(
            f"teacher.target: raters needs judgments of a rater each, found {missing:,} of {judgments.height:,} pairs "
            "without; use grade or interpolated"
        )
    counts = np.array(counted.to_list(), dtype=np.float64).reshape(-1, n_grades)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))
