"""Judgments that are most likely wrong: planted errors are found, and the CSV is safe to open."""

from __future__ import annotations

import csv

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.evaluation.suspects import COLUMNS, suspects, write_suspects
from pertinent.types import Scale


def planted(seed: int = 0, n: int = 2000, share: float = 0.05):
    """Judgments of which a share is wrong by two grades or more, and a good model's probabilities of the true grade."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 5, n)
    wrong = generator.random(n) < share
    grades = np.where(wrong, (truth + 2 + generator.integers(0, 2, n)) % 5, truth)
    logits = generator.normal(size=(n, 5)) + 3.5 * np.eye(5)[truth]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pl.DataFrame(
        {
            "query": [f"query {i // 10}" for i in range(n)],
            "item_id": [f"i{i}" for i in range(n)],
            "grade": grades,
            "note": "x",
        }
    )
    return frame, probs, wrong


def test_planted_errors_stand_first() -> None:
    frame, probs, wrong = planted()
    found = suspects(frame, probs, Scale())
    assert found.columns == [*COLUMNS, "note"]
    assert found["rank"].to_list() == list(range(1, 2001))
    is_wrong = dict(zip(frame["item_id"], wrong, strict=True))
    flags = np.array([is_wrong[item] for item in found["item_id"]])
    assert flags[: wrong.sum() // 2].mean() > 0.9
    suspected = found["suspected"].to_numpy()
    assert flags[suspected].mean() > 0.5
    assert flags[suspected].sum() / wrong.sum() > 0.6


def test_right_judgments_of_a_model_that_agrees_are_not_suspected() -> None:
    frame, probs, _ = planted(1, share=0.0)
    sure = np.eye(5)[frame["grade"].to_numpy()] * 0.9 + 0.02
    assert suspects(frame, sure, Scale())["suspected"].sum() == 0
    assert (suspects(frame, probs, Scale())["margin"] >= 0).all()


def test_a_row_matches_the_hand_computation() -> None:
    frame = pl.DataFrame({"query": ["a", "a", "b"], "item_id": ["1", "2", "3"], "grade": [0, 1, 1]})
    probs = np.array([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    # Thresholds: grade 0 .8; grade 1 (.3 + .9) / 2 = .6. Row 2: .7 < .8 and .3 < .6, so nothing passes.
    found = suspects(frame, probs, Scale.of_size(2))
    first = found.row(0, named=True)
    assert first == {
        "rank": 1, "query": "a", "item_id": "2", "grade": "L2", "likely_grade": "L1",
        "p_grade": 0.3, "p_likely": 0.7, "margin": pytest.approx(0.4), "suspected": False,
    }  # fmt: skip
    probs[1] = [0.85, 0.15]
    assert suspects(frame, probs, Scale.of_size(2))["suspected"].to_list() == [True, False, False]


def test_only_probabilities_out_of_fold_are_taken() -> None:
    frame, probs, _ = planted(2, n=20)
    seen = np.zeros(20, dtype=bool)
    assert suspects(frame, probs, Scale(), trained_folds=seen).height == 20
    seen[13] = True
    with pytest.raises(
        DataError, match=r"query query 1: expected probabilities of a model not trained on it \(1 rows\)"
    ):
        suspects(frame, probs, Scale(), trained_folds=seen)


def test_the_csv_is_for_review_and_starts_no_formula(tmp_path) -> None:
    frame, probs, _ = planted(3, n=300)
    frame = frame.with_columns(query=pl.lit("=1+1"), tags=pl.lit(["a"]))
    file = tmp_path / "new" / "suspects.csv"
    n = write_suspects(suspects(frame, probs, Scale()), file)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert 0 < n == len(rows) < 300
    assert rows[0]["query"] == "'=1+1"
    assert rows[0]["review"] == ""
    assert "tags" not in rows[0]
    assert write_suspects(suspects(frame, probs, Scale()), file, only_suspected=False) == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:-1], r"expected probabilities \(20, 5\), found \(19, 5\)"),
        (lambda p: p * 2, "probabilities must be finite and sum to 1"),
        (lambda p: p * np.nan, "probabilities must be finite and sum to 1"),
    ],
)
def test_wrong_probabilities_are_refused(change, message) -> None:
    frame, probs, _ = planted(4, n=20)
    with pytest.raises(DataError, match=message):
        suspects(frame, change(probs), Scale())


def test_a_list_that_cannot_be_written_is_one_line(tmp_path) -> None:
    frame, probs, _ = planted(5, n=20)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        write_suspects(suspects(frame, probs, Scale()), tmp_path / "file" / "x.csv")
