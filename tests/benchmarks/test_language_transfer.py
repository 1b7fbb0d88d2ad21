from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from language_transfer import Bench, against_people, expected_grade, targets
from transfer_data import CELLS, TransferData, _known_lines, _number, half_of


def pairs_of(human: Sequence[float], queries: Sequence[str], source: str = "expert") -> pl.DataFrame:
    return pl.DataFrame({"query_id": queries, "human": human}).with_columns(source=pl.lit(source))


def test_agreement_matches_the_hand_computation() -> None:
    # Relevant: 3 and 4. Of 2 x 2 pairs of relevant and not, 2 in order. Of 6 pairs of different ratings, 4 in order
    # and 2 not: tau (4 - 2) / 6.
    pairs = pairs_of([1.0, 2.0, 3.0, 4.0], ["a", "b", "a", "b"])
    found = against_people(pairs, np.array([0.2, 0.5, 0.4, 0.45]))
    assert found["auroc"] == pytest.approx(0.5)
    assert found["kendall"] == pytest.approx((4 - 2) / 6)
    assert (found["pairs"], found["queries"], found["relevant"]) == (4, 2, 0.5)


def test_intervals_hold_the_value_and_are_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    human = rng.integers(1, 5, 300).astype(float)
    pairs = pairs_of(human.tolist(), [f"q{k % 60}" for k in range(300)])
    scores = human + rng.normal(0, 1.5, 300)
    first, again = against_people(pairs, scores), against_people(pairs, scores)
    assert first == again
    for metric in ("auroc", "kendall"):
        low, high = first["intervals"][metric]
        assert low < first[metric] < high


def test_the_target_is_the_share_of_englishs_gain_over_chance() -> None:
    rows = {
        "flickr8k/teacher/en-en": {"auroc_expert": 0.9},
        "flickr8k/teacher/zh-zh": {"auroc_expert": 0.88},
        "flickr8k/student/en-en": {"auroc_expert": 0.8},
    }
    teacher, student = targets(rows)
    assert (teacher.measured, teacher.met) == (0.95, True)
    assert (student.measured, student.met) == (None, False)


def test_every_cell_and_language_has_a_row() -> None:
    names = set(Bench(quick=True).rows())
    assert len(CELLS) == 6
    assert len(names) == 2 + 3 * 6 + 3 + 3 * 10
    assert {"cxc", "labels", "flickr8k/student/zh-ar", "kuake/teacher", "xtd10/embedding/ja"} <= names


def test_expected_grades_and_names() -> None:
    assert expected_grade(np.array([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]], dtype=np.float32)).tolist() == [1.0, 2.0]
    assert _number("COCO_train2014_000000061844.jpg") == 61844
    sides = [half_of(f"{k}.jpg") for k in range(1000)]
    assert 400 < sides.count("labelled") < 600


@pytest.mark.skipif("PERTINENT_DATA" not in os.environ, reason="PERTINENT_DATA is not set: no Flickr8k, XTD10 or CxC")
def test_the_halves_share_no_query_and_no_image() -> None:
    data = TransferData(None, None)  # type: ignore[arg-type]
    tested, (queries, images) = data.flickr8k, data.unjudged
    assert set(tested["source"]) == {"expert", "crowd"}
    assert not set(tested["image"]) & set(images)
    assert not set(tested["query_zh"]) & set(queries["zh"])
    owners = {query.partition("#")[0] for query in tested["query_id"]}
    assert not owners & set(images)
    assert len(_known_lines()) == 28
    pairs = data.xtd10("zh")
    assert pairs.height == 972 * 20
    assert pairs.filter(pl.col("human") == 1).select("query_id", "item_id").rows()[0] == ("0", "xtd10/0")
    assert pairs.group_by("query_id").agg(pl.col("item_id").n_unique(), pl.col("human").sum())[
        "item_id"
    ].unique().to_list() == [20]
    assert data.xtd10("de")["item_id"].to_list() == pairs["item_id"].to_list()
