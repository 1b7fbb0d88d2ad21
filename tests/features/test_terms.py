from __future__ import annotations

import zlib

import pytest

from pertinent.features.terms import MAX_CHARACTERS, is_number, terms_of, trigrams_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red velvet SOFAS", ["red", "velvet", "sofa"]),
        ("berries, dresses; boxes & benches!", ["berry", "dress", "box", "bench"]),
        ("glass bus tennis gas ties", ["glass", "bus", "tennis", "gas", "tie"]),
        ("12x24in 3.5ft 1/2 1,000 a4", ["12", "x", "24", "in", "3.5", "ft", "1/2", "1,000", "a", "4"]),
        ("M-18 wi-fi don't", ["m", "18", "wi", "fi", "don", "t"]),
        ("Crème brûlée Straße", ["creme", "brulee", "strasse"]),
        ("ÅNGSTRÖM ｆｕｌｌ", ["angstrom", "full"]),
        ("红木桌子", ["红木", "木桌", "桌子"]),
        ("茶 oak茶", ["茶", "oak", "茶"]),
        ("木製テーブル 3段", ["木製", "製テ", "テー", "ーブ", "ブル", "3", "段"]),
        ("โต๊ะไม้", ["โต", "ต๊", "๊ะ", "ะไ", "ไม", "ม้"]),
        ("كُرسيّ خشب", ["كرسي", "خشب"]),
        ("소파 의자", ["소파", "의자"]),
        ("مقهى مدرسة كـتاب", ["مقهي", "مدرسه", "كتاب"]),
        ("24 inches 24-inch 24\" 6' 6 feet", ["24", "in", "24", "in", "24", "in", "6", "ft", "6", "ft"]),
        ("5 pounds of pound cake, 60 Watts", ["5", "lb", "of", "pound", "cake", "60", "w"]),
        ("Диван Ёлка", ["диван", "елка"]),
        ("", []),
        (" !? -_- ", []),
    ],
)
def test_terms_match_the_hand_worked_ones(text: str, expected: list[str]) -> None:
    assert terms_of(text) == expected


@pytest.mark.parametrize(("one", "other"), [("ガラス", "カラス"), ("バス", "ハス"), ("パン", "ハン"), ("ปู", "ปุ")])
def test_marks_of_unspaced_scripts_tell_words_apart(one: str, other: str) -> None:
    # Glass and crow, bus and lotus, bread and seal: these marks are letters, not accents.
    assert terms_of(one) != terms_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Brand™", "brand tm"), ("１２㎝", "12 cm"), ("㎒", "mhz"), ("ﬁre", "FIRE")]
)
def test_compatibility_characters_give_the_terms_of_their_plain_spelling(one: str, other: str) -> None:
    assert [t for term in terms_of(one) for t in term] == [t for term in terms_of(other) for t in term]


def test_only_the_first_characters_of_a_long_text_are_read() -> None:
    assert len(terms_of("ab " * 10_000)) == -(-MAX_CHARACTERS // 3)


def test_a_number_is_a_term_of_digits() -> None:
    assert [is_number(term) for term in ("12", "3.5", "x", "红木")] == [True, True, False, False]


def test_trigrams_are_the_sorted_hashes_of_the_marked_terms() -> None:
    # "^oak$" gives ^oa, oak, ak$; "^a$" gives itself; the second "oak" nothing new.
    expected = sorted(zlib.crc32(gram) & 0x7FFFFFFF for gram in (b"^oa", b"oak", b"ak$", b"^a$"))
    assert trigrams_of(["oak", "a", "oak"]).tolist() == expected
    assert trigrams_of([]).size == 0
