from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.teacher.augmentation import drop_fields, misspell
from pertinent.text.representation import SEPARATOR, split_fields

FIELDS = ["title: red sofa", "brand: Ikea", "color: red"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_fields_are_left_out_by_chance_and_keep_their_order() -> None:
    drawn, generator = 3_000, rng()
    kept = [split_fields(drop_fields(FIELDS, 0.3, generator)) for _ in range(drawn)]
    assert all(fields == [field for field in FIELDS if field in fields] for fields in kept)
    for field in FIELDS[1:]:
        assert sum(field in fields for fields in kept) / drawn == pytest.approx(0.7, abs=0.03)
    # The first field also stands in where all would go: 0.7 + 0.3^3.
    assert sum(FIELDS[0] in fields for fields in kept) / drawn == pytest.approx(0.727, abs=0.03)


def test_one_field_always_stays() -> None:
    assert drop_fields(FIELDS, 0.999, rng()) == FIELDS[0]
    assert drop_fields(FIELDS[2:], 0.999, rng()) == FIELDS[2]
    assert drop_fields([], 0.5, rng()) == ""


def test_without_a_chance_the_text_stays_whole() -> None:
    text = SEPARATOR.join(FIELDS)
    assert drop_fields(split_fields(text), 0.0, rng()) == text


def test_an_error_is_one_of_the_four_that_people_make() -> None:
    generator = rng()
    found = {misspell("sofa", generator) for _ in range(4_000)}
    left_out, doubled, swapped = {"sfa", "soa"}, {"soofa", "soffa"}, {"sfoa", "soaf"}
    letters = "abcdefghijklmnopqrstuvwxyz"
    changed = {f"s{letter}fa" for letter in letters} | {f"so{letter}a" for letter in letters}
    assert found == left_out | doubled | swapped | changed


@pytest.mark.parametrize("query", ["", "red", "90 cm", "диван", "м2 rug", "12345", "wi-fi", "café"])
def test_a_query_without_a_long_plain_word_is_kept(query: str) -> None:
    assert misspell(query, rng()) == query


@given(st.text(alphabet="abcdef 12é", max_size=40), st.integers(0, 2**31))
def test_at_most_one_word_changes_and_never_its_first_letter(query: str, seed: int) -> None:
    before, after = query.split(" "), misspell(query, rng(seed)).split(" ")
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) <= 1
    for old, new in changed:
        assert len(old) >= 4
        assert new[0] == old[0]
        assert abs(len(new) - len(old)) <= 1


def test_the_same_generator_gives_the_same_errors() -> None:
    queries = ["velvet sofa", "leather armchair", "rustic table"] * 5
    first, again, other = rng(1), rng(1), rng(2)
    found = [misspell(query, first) for query in queries]
    assert found == [misspell(query, again) for query in queries]
    assert found != [misspell(query, other) for query in queries]
