"""Slices of the judged pairs."""

import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.evaluation.slices import (
    slice_rows,
    too_small,
    with_item_fields,
    with_popularity,
    with_query_words,
)

FRAME = pl.DataFrame(
    {
        "query": ["red", "red shoe", "a b  c", "a b c d e f", " x\ty z w ", ""],
        "language": ["en", None, "de", "en", "en", "de"],
        "grade": [0, 1, 2, 3, 4, 0],
        "tags": [["a"], [], [], [], [], []],
        "is_new": [True, False, True, None, True, True],
    }
)


def test_query_words_counts_words_up_to_five() -> None:
    assert with_query_words(FRAME)["query_words"].to_list() == ["1", "2", "3", "5+", "4", "0"]


def test_rows_of_each_value_in_sorted_order_with_nulls_named() -> None:
    rows, notes = slice_rows(FRAME, "language")
    assert {value: found.tolist() for value, found in rows.items()} == {"(missing)": [1], "de": [2, 5], "en": [0, 3, 4]}
    assert list(rows) == ["(missing)", "de", "en"]
    assert notes == []
    assert slice_rows(FRAME, "is_new")[0]["true"].tolist() == [0, 2, 4, 5]


def test_grades_are_sliced_under_their_shown_names() -> None:
    rows, _ = slice_rows(FRAME, "grade")
    assert {value: found.tolist() for value, found in rows.items()} == {
        "L1": [0, 5], "L2": [1], "L3": [2], "L4": [3], "L5": [4],
    }  # fmt: skip


def test_of_many_values_those_with_most_pairs_are_kept_and_told() -> None:
    rows, notes = slice_rows(FRAME, "language", max_values=2)
    assert list(rows) == ["de", "en"]
    assert notes == ["slices by language: the 2 values with most pairs of 3"]


def test_item_fields_are_those_with_something_in_them() -> None:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["lamp", " ", None],
            "captions": [["x"], [], None],
            "year": [1990, None, None],
            "note": ["left", "out", "here"],
        }
    )
    scores = pl.DataFrame({"item_id": ["b", "a", "c", "a", "nowhere"]})
    found = with_item_fields(scores, items, ["title", "captions", "year", "absent"])
    assert found["item_fields"].to_list() == ["none", "title+captions+year", "none", "title+captions+year", None]
    assert found["item_id"].to_list() == scores["item_id"].to_list()


def test_popularity_parts_the_log_in_thirds_and_keeps_equals_together() -> None:
    # 12 rows of the log: a 4 (above it 0), b and c 2 each (4 of 12 above), d..g 1 each (8 of 12 above).
    counts = pl.DataFrame({"item_id": list("abcdefg"), "n": [4, 2, 2, 1, 1, 1, 1]})
    scores = pl.DataFrame({"item_id": ["g", "a", "zz", "b", "c", "d"]})
    found = with_popularity(scores, counts, "item_id", "item_popularity")
    assert found["item_popularity"].to_list() == ["tail", "head", "unseen", "torso", "torso", "tail"]
    none = with_popularity(scores, counts.clear(), "item_id", "item_popularity")
    assert set(none["item_popularity"]) == {"unseen"}


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (0, "too small: no query, 20 are needed for an interval"),
        (1, "too small: 1 query, 20 are needed for an interval"),
        (19, "too small: 19 queries, 20 are needed for an interval"),
        (20, ""),
    ],
)
def test_a_slice_that_is_too_small_says_so(n, said) -> None:
    assert too_small(n, 20) == said


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("absent", "slice column absent: no such column; found query, language"),
        ("tags", "slice column tags: expected one value a row, found List"),
    ],
)
def test_wrong_columns_are_refused(column, message) -> None:
    with pytest.raises(DataError, match=message):
        slice_rows(FRAME, column)


def test_an_empty_frame_has_no_slice() -> None:
    assert slice_rows(FRAME.clear(), "language") == ({}, [])
