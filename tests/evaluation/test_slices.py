"""Slices of the judged pairs."""

import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.evaluation.slices import slice_rows, with_query_words

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


def test_of_many_values_those_with_most_pairs_are_kept_and_told() -> None:
    rows, notes = slice_rows(FRAME, "language", max_values=2)
    assert list(rows) == ["de", "en"]
    assert notes == ["slices by language: the 2 values with most pairs of 3"]


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
