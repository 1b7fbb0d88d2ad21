from __future__ import annotations

import math

import pytest

from pertinent.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7194, ".719"),
        (-0.0312, "-.031"),
        (1.0, "1.000"),
        (0.99951, "1.000"),
        (0.0, ".000"),
        (-0.0001, ".000"),
        (10.25, "10.250"),
    ],
)
def test_three_decimals_without_the_leading_zero(value: float, text: str) -> None:
    assert numbers.decimals(value) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.7", True, [0.7]])
def test_what_is_not_a_finite_number_is_no_measurement(value: object) -> None:
    assert numbers.measured(value) is None


@pytest.mark.parametrize("value", [None, [0.1], [0.1, None], [0.1, math.nan], "ab", {"low": 0}])
def test_what_is_not_two_numbers_is_no_interval(value: object) -> None:
    assert numbers.measured_interval(value) is None


def test_a_tree_of_counts_reads_as_lines() -> None:
    tree = {"n_dev_pairs": 1234, "split": {"train": 7, "share": 0.12345}, "languages": ["en", "ja"], "empty": []}
    expected = [
        ("dev pairs", "1,234"),
        ("split / train", "7"),
        ("split / share", "0.1235"),
        ("languages", "en, ja"),
        ("empty", "none"),
    ]
    assert numbers.flat(tree) == expected


def test_durations() -> None:
    assert [numbers.duration(s) for s in (4.23, 59.999, 60, 432, 3780)] == [
        "4.2 s",
        "60.0 s",
        "1 min 00 s",
        "7 min 12 s",
        "1 h 03 min",
    ]
