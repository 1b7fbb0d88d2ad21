from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.text.repeats import Said, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red  Velvet-Sofa, 12 in.", "red velvet sofa 12 in"),
        ("C# and C++", "c# and c++"),
        ("红色沙发", "红 色 沙 发"),
        ("IKEA沙发 2座", "ikea 沙 发 2 座"),
        ("हिन्दी में", "हिन्दी में"),  # vowel signs are no marks of punctuation
        ("STRASSE straße", "strasse strasse"),
        ("!?", ""),
    ],
)
def test_words_are_what_two_phrases_have_in_common(text: str, expected: str) -> None:
    assert words_of(text) == expected


def said(*phrases: str) -> Said:
    found = Said()
    for phrase in phrases:
        found.add(phrase)
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red sofa", True),
        ("RED SOFA!", True),
        ("red", True),
        ("sofa red", False),  # another order
        ("red chair", False),  # words of two phrases
        ("sofa with", False),  # across two phrases
        ("so", False),  # part of a word
        ("", False),
    ],
)
def test_words_are_said_where_they_stand_together_in_order(words: str, expected: bool) -> None:
    assert said("A red sofa", "With a chair").says(words_of(words)) is expected


def test_entries_that_are_said_are_left_out_and_so_are_those_alike() -> None:
    new, repeated = said("Modern red sofa").new_entries(["red sofa", "Red couch", "red  couch!", "sofas", "沙发", "★"])
    assert new == ["Red couch", "sofas", "沙发", "★"]
    assert repeated == ["red sofa", "red  couch!"]


def test_the_last_word_of_a_cut_phrase_is_not_said() -> None:
    found = Said()
    found.add("blue car", whole=False)  # of "blue carpet"
    assert found.says("blue")
    assert not found.says("car")


@pytest.mark.parametrize(
    ("text", "expected", "repeated"),
    [
        ("Red sofa: large and soft", "large and soft", ["Red sofa"]),
        ("RED SOFA - large", "large", ["RED SOFA"]),
        ("Red sofa", "", ["Red sofa"]),
        ("Red sofa. Large.", "Large.", ["Red sofa"]),
        ("Red sofas: large", "Red sofas: large", []),
        ("Red sofa beds for two", "Red sofa beds for two", []),  # the sentence keeps its subject
        ("Red sofa-bed", "Red sofa-bed", []),
        ("Soft. Made of solid oak. Made of  solid OAK! Cheap.", "Soft. Made of solid oak. Cheap.", ["Made of  solid OAK!"]),
        ("Seats three people. Free delivery.", "Free delivery.", ["Seats three people."]),
        ("red", "red", []),  # a word alone: its tag tells something
        ("大きな赤いソファ。とても柔らかい。大きな赤いソファ。", "大きな赤いソファ。とても柔らかい。", ["大きな赤いソファ。"]),
    ],
)  # fmt: skip
def test_of_a_text_the_title_in_front_and_said_sentences_are_left_out(
    text: str, expected: str, repeated: list[str]
) -> None:
    assert said("Red sofa", "It seats three people.").new_text(text, "Red sofa") == (expected, repeated)


def test_a_title_that_was_cut_is_not_left_out_of_a_text() -> None:
    assert said("Red").new_text("Red sofa: large", "Red sofa") == ("Red sofa: large", [])


@given(st.lists(st.sampled_from(["red sofa", "oak", "soft oak sofa", "Red!", "沙发"]), max_size=6))
def test_every_entry_is_new_or_repeated_and_what_is_new_is_not_said(entries: list[str]) -> None:
    before = said("a soft red sofa")
    new, repeated = before.new_entries(entries)
    assert sorted(new + repeated) == sorted(entries)
    assert not any(before.says(words_of(entry)) for entry in new)
    assert len({words_of(entry) for entry in new}) == len(new)
