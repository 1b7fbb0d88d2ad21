from __future__ import annotations

import random

import pytest

from pertinent.data.splits import normalise_query
from pertinent.mining.private import is_private, luhn


@pytest.mark.parametrize(
    "text",
    [
        "anna.b@example.org",
        "mail to anna+x@mail.example.co.uk please",
        "ＡＮＮＡ＠ｅｘａｍｐｌｅ．ｏｒｇ",  # full-width signs
        "(617) 555-0100",
        "+1 617 555 0100 boston",
        "+49 (0)30 123456",
        "0301234567",
        "2022 617 555 0100 99",  # other numbers stand before and after
        "٠٣٠١٢٣٤٥٦٧",  # Arabic digits
        "4111111111111111",
        "4111 1111 1111 1111",
        "card 5500-0055-5555-5559 visa",
        "30569309025904",
        "99 4111111111111111 7",
    ],
)
def test_texts_that_may_name_a_person_are_private(text: str) -> None:
    assert is_private(normalise_query(text))


@pytest.mark.parametrize(
    "text",
    [
        "red sofa",
        "sofa @ home",
        "ikea @home.",
        "iphone 15 pro 256 gb",
        "12x24x36 in 2 by 4",
        "1939-1945",
        "model 12345678",
        "4111111111111112",  # 16 digits whose check digit is wrong
        "12345 and 67890",  # a word between: two numbers
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not is_private(normalise_query(text))


def test_the_check_digit_is_that_of_the_standard() -> None:
    # ISO/IEC 7812-1: the payload 7992739871 has check digit 3, and no other.
    assert [d for d in range(10) if luhn([*map(int, "7992739871"), d])] == [3]
    draw = random.Random(0)
    for _ in range(200):  # the textbook rule, from the left over the whole number
        digits = [draw.randrange(10) for _ in range(draw.randrange(1, 20))]
        total = 0
        for place, digit in enumerate(reversed(digits)):
            total += sum(map(int, str(2 * digit))) if place % 2 else digit
        assert luhn(digits) == (total % 10 == 0)
