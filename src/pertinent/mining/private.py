"""Texts that may name a person: e-mail addresses, phone numbers and card numbers. In doubt a text is private.

A query that is wrongly called private costs one query; one that is wrongly kept may publish a person's number.
"""

from __future__ import annotations

import re
from itertools import accumulate

_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@.]")
# Digits with at most three signs between neighbours, as numbers are written by hand: +1 (617) 555-0100.
_NUMBER = re.compile(r"\d(?:[ ()./+-]{0,3}\d)*")
_PHONE_DIGITS = range(9, 16)  # national numbers with an area code have 9 or more, international ones at most 15 (E.164)
_CARD_DIGITS = range(13, 20)  # ISO/IEC 7812
MIN_DIGITS = min(_PHONE_DIGITS[0], _CARD_DIGITS[0])  # fewer are neither


def is_private(text: str) -> bool:
    """Whether a normalised text holds an e-mail address, a phone-like number (9 to 15 digits) or a card number.

    A number of 16 to 19 digits is a card's where its check digit is right (Luhn). Barcodes of 12 or 13 digits look like
    phone numbers and are taken for such.
    """
    if _EMAIL.search(text):
        return True
    for match in _NUMBER.finditer(text):
        groups = re.findall(r"\d+", match.group())
        ends = [0, *accumulate(map(len, groups))]
        digits = [int(sign) for sign in "".join(groups)]
        # Neighbouring groups in every number, for a year, say, may stand before or after it.
        if any(_is_number(digits[start:end]) for i, start in enumerate(ends) for end in ends[i + 1 :]):
            return True
    return False


def luhn(digits: list[int]) -> bool:
    """Whether the last digit is the check digit of the others. Source: ISO/IEC 7812-1, annex B."""
    doubled = [2 * d - 9 if d > 4 else 2 * d for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_number(digits: list[int]) -> bool:
    return len(digits) in _PHONE_DIGITS or (len(digits) in _CARD_DIGITS and luhn(digits))
