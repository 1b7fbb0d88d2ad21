from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.teacher.config import AugmentationSettings, TeacherConfig
from pertinent.teacher.pairs import PairEncoder, load_tokenizer
from pertinent.teacher.rows import (
    TrainingRows,
    balancing_weights,
    target_distributions,
    training_judgments,
    training_rows,
)

RATED = pl.DataFrame(
    {"grade": [0, 2, 1], "grade_mean": [0.25, 2.0, 1.6], "grade_counts": [[3, 1, 0], [0, 0, 2], [1, 0, 4]]}
)
BOTH = AugmentationSettings(field_dropout=0.4, misspelling=0.5)


def targets(config: TeacherConfig, judgments: pl.DataFrame = RATED) -> np.ndarray[Any, Any]:
    return target_distributions(judgments, config, 3)


def test_a_grade_is_a_target_of_its_own() -> None:
    assert targets(TeacherConfig(target="grade")).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_a_mean_rating_is_shared_between_its_neighbours() -> None:
    shared = targets(TeacherConfig(target="interpolated"))
    assert shared == pytest.approx(np.array([[0.75, 0.25, 0], [0, 0, 1], [0, 0.4, 0.6]]), abs=1e-6)
    # The mean of the target is the rating that people gave.
    assert shared @ np.arange(3) == pytest.approx(RATED["grade_mean"].to_numpy(), abs=1e-6)


def test_the_raters_distribution_is_their_shares() -> None:
    found = targets(TeacherConfig(target="raters"))
    assert found == pytest.approx(np.array([[0.75, 0.25, 0], [0, 0, 1], [0.2, 0, 0.8]]), abs=1e-6)


def test_smoothing_spreads_its_share_over_all_grades() -> None:
    # 0.3 over 3 grades is 0.1 each.
    found = targets(TeacherConfig(target="grade", label_smoothing=0.3))
    assert found == pytest.approx(np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]), abs=1e-6)


@pytest.mark.parametrize("target", ["grade", "interpolated", "raters"])
def test_every_target_is_a_distribution(target: Any) -> None:
    found = targets(TeacherConfig(target=target, label_smoothing=0.1))
    assert found.dtype == np.float32
    assert found.min() > 0
    assert found.sum(axis=1) == pytest.approx(np.ones(3))


def test_raters_that_are_not_known_are_a_data_error() -> None:
    config = TeacherConfig(target="raters")
    with pytest.raises(DataError, match=r"teacher\.target: raters needs .* found 3 of 3 pairs without"):
        targets(config, RATED.drop("grade_counts"))
    some = RATED.with_columns(grade_counts=pl.Series([[1, 0, 0], None, [0, 0, 1]]))
    with pytest.raises(DataError, match="found 1 of 3 pairs without; use grade or interpolated"):
        targets(config, some)


def test_balancing_weights_are_those_worked_by_hand() -> None:
    # Six pairs of two grades: three each would weigh 1; two of grade 0 weigh 6 / (2 * 2), four of grade 2 6 / (2 * 4).
    found = balancing_weights([0, 2, 2, 0, 2, 2], 4)
    assert found.tolist() == [1.5, 0.75, 0.75, 1.5, 0.75, 0.75]
    assert found.mean() == pytest.approx(1.0)


def judged(grade_of: Callable[[int], int] = lambda row: row % 2) -> pl.DataFrame:
    """8 queries of 3 items; q0 is a test query."""
    pairs = [(q, k) for q in range(8) for k in range(3)]
    rows = [(f"q{q}", f"i{k}", "test" if q == 0 else "train", grade_of(3 * q + k)) for q, k in pairs]
    return pl.DataFrame(rows, schema=["query_id", "item_id", "split", "grade"], orient="row")


def test_a_limit_on_rows_takes_whole_queries_in_a_seeded_order() -> None:
    judgments = judged()
    chosen = training_judgments(judgments, 7, seed=1)
    assert chosen["query_id"].value_counts()["count"].sort().to_list() == [1, 3, 3]
    assert "q0" not in chosen["query_id"]
    assert chosen.equals(training_judgments(judgments, 7, seed=1))
    assert not chosen.equals(training_judgments(judgments, 7, seed=2))
    assert training_judgments(judgments, None, 1).height == training_judgments(judgments, 21, 1).height == 21


def test_a_larger_limit_adds_rows_and_takes_none_away() -> None:
    few, more = (training_judgments(judged(), limit, seed=1) for limit in (6, 15))
    assert more.join(few, on=["query_id", "item_id"], how="semi").height == 6


@pytest.mark.parametrize(("grade_of", "limit"), [(lambda row: 1, None), (lambda row: int(row < 3), None)])
def test_a_train_split_of_one_grade_is_a_data_error(grade_of: Callable[[int], int], limit: int | None) -> None:
    # The second data set has another grade, but in its test split alone.
    with pytest.raises(DataError, match=r"teacher: expected training judgments of at least two grades, found \["):
        training_judgments(judged(grade_of), limit, seed=1)


QUERIES = ["velvet armchair", "rustic table", "oak"] * 4
TEXTS = {"i0": "title: leather sofa | brand: oak | color: red", "i1": "title: rug | description: " + "easy " * 30}


@pytest.fixture
def rows_of(tiny_backbone: Path) -> Callable[..., TrainingRows]:
    tokenizer = load_tokenizer(tiny_backbone / "tokenizer.json")

    def rows(seed: int = 0, **changes: Any) -> TrainingRows:
        judgments = pl.DataFrame(
            {"query": QUERIES, "item_id": ["i0", "i1"] * 6, "grade": [0, 1, 2, 2] * 3, "grade_mean": [1.0] * 12}
        )
        encoder = PairEncoder.of_encoder(tokenizer, 24, 12)
        return training_rows(
            judgments,
            [TEXTS[item] for item in judgments["item_id"]],
            encoder,
            TeacherConfig(**{"epochs": 3, **changes}),
            3,
            seed,
        )

    return rows


def test_without_augmentation_one_epoch_stands_for_all(rows_of: Callable[..., TrainingRows]) -> None:
    rows = rows_of()
    assert len(rows.ids) == rows.n_pairs == 12
    assert rows.of_epoch(2, 5) == rows.of_epoch(0, 5) == rows.ids[5]
    assert rows.names[:2] == ["velvet armchair -> i0", "rustic table -> i1"]
    assert rows.weights is None
    assert rows.n_cut == 6  # those of the long text


def test_balanced_weights_are_those_of_the_pairs_grades(rows_of: Callable[..., TrainingRows]) -> None:
    # 3, 3 and 6 of 12 pairs: 12 / (3 * 3) and 12 / (3 * 6).
    weights = rows_of(class_weights="balanced").weights
    assert weights == pytest.approx(np.array([4 / 3, 4 / 3, 2 / 3, 2 / 3] * 3))


def test_augmentation_differs_by_epoch_and_seed_and_is_the_same_when_drawn_again(
    rows_of: Callable[..., TrainingRows],
) -> None:
    rows = rows_of(augmentation=BOTH)
    assert len(rows.ids) == 3 * rows.n_pairs
    epochs = [[rows.of_epoch(epoch, pair) for pair in range(12)] for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert rows.ids == [row for epoch in epochs for row in epoch]
    assert rows_of(augmentation=BOTH).ids == rows.ids  # as a resumed run draws them
    assert rows_of(augmentation=BOTH, seed=1).ids != rows.ids


def test_an_epoch_more_leaves_those_before_as_they_were(rows_of: Callable[..., TrainingRows]) -> None:
    assert rows_of(augmentation=BOTH, epochs=5).ids[:36] == rows_of(augmentation=BOTH).ids


def test_each_augmentation_works_alone(rows_of: Callable[..., TrainingRows]) -> None:
    plain = rows_of()
    dropped = rows_of(augmentation=AugmentationSettings(field_dropout=0.5))
    typos = rows_of(augmentation=AugmentationSettings(misspelling=1.0))

    def query_part(row: list[int]) -> list[int]:
        return row[: row.index(3)]

    for epoch in range(3):
        for pair in range(12):
            whole, fewer = plain.ids[pair], dropped.of_epoch(epoch, pair)
            assert query_part(fewer) == query_part(whole)
            assert len(fewer) <= len(whole)
            has_long_word = QUERIES[pair] != "oak"
            assert (query_part(typos.of_epoch(epoch, pair)) != query_part(whole)) or not has_long_word
    assert sum(len(row) for row in dropped.ids) < 3 * sum(len(row) for row in plain.ids)
