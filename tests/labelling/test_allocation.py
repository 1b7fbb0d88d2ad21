from __future__ import annotations

import random

import pytest

from pertinent.errors import ConfigError
from pertinent.labelling.allocation import allocate
from pertinent.labelling.config import Allocation

SIZES = {"a": 900, "b": 90, "c": 10}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("proportional", {"a": 90, "b": 9, "c": 1}),
        # Square roots 30, 9.487, 3.162 of 42.649: 70.34, 22.24, 7.41; c has the largest remainder.
        ("sqrt", {"a": 70, "b": 22, "c": 8}),
        # A third each is 33.3; c is full at 10, and the 90 left are halved.
        ("fixed", {"a": 45, "b": 45, "c": 10}),
    ],
)
def test_places_match_the_hand_computation(how: Allocation, expected: dict[str, int]) -> None:
    assert allocate(SIZES, 100, how, {}) == expected


def test_quotas_come_first_and_the_rest_is_shared() -> None:
    assert allocate(SIZES, 100, "proportional", {"b": 50}) == {"a": 49, "b": 50, "c": 1}
    assert allocate(SIZES, 100, "proportional", {"c": 50, "b": 0}) == {"a": 90, "b": 0, "c": 10}


@pytest.mark.parametrize("how", ["proportional", "sqrt", "fixed"])
def test_no_stratum_passes_its_size_and_all_places_are_given(how: Allocation) -> None:
    rng = random.Random(0)
    for _ in range(200):
        sizes = {f"s{k}": rng.randint(1, 50) for k in range(rng.randint(1, 9))}
        n = rng.randint(1, 300)
        places = allocate(sizes, n, how, {})
        assert sum(places.values()) == min(n, sum(sizes.values()))
        assert all(0 <= places[name] <= size for name, size in sizes.items())


def test_quotas_that_cannot_be_are_errors() -> None:
    with pytest.raises(ConfigError, match="expected a stratum of the log, such as 'a', found 'd'"):
        allocate(SIZES, 10, "sqrt", {"d": 1})
    with pytest.raises(ConfigError, match="expected at most 10 places in all, found 60"):
        allocate(SIZES, 10, "sqrt", {"a": 50, "c": 10})
