"""Text -> terms for lexical features, for scripts with and without spaces between words."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces: Han, kana, Thai, Lao, Khmer, Myanmar. A run of them gives its overlapping bigrams.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]+|\d+(?:[.,/]\d+)*|[^\W\d_{_UNSPACED}]+")
_RUN = re.compile(rf"[{_UNSPACED}]")
_BETWEEN = re.compile(r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
# Spellings of one letter that people use for one another: Arabic alef maksura, teh marbuta, Persian yeh and kaf; the
# tatweel only stretches a word.
_ARABIC = str.maketrans(
    {"\u0649": "\u064a", "\u06cc": "\u064a", "\u0629": "\u0647", "\u06a9": "\u0643", "\u0640": None}
)
_MARKS = (
    (re.compile(r"(?<=\d)\s*(?:\"|\u2033|''|\u201d)"), " in "),
    (re.compile(r"(?<=\d)\s*(?:'|\u2032|\u2019)(?!\w)"), " ft "),
)
# A unit behind a number, whatever its spelling -> one term.
_SPELLINGS = {
    "in": "inch inche",
    "ft": "foot feet",
    "yd": "yard",
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "g": "gram gramme gm",
    "kg": "kilo kilogram kilogramme kgs",
    "oz": "ounce",
    "lb": "lbs pound",
    "ml": "milliliter millilitre",
    "l": "liter litre ltr",
    "gal": "gallon",
    "v": "volt",
    "w": "watt",
    "a": "amp ampere",
    "gb": "gigabyte",
    "tb": "terabyte",
}
_UNIT_OF = {spelling: unit for unit, others in _SPELLINGS.items() for spelling in (unit, *others.split())}
MAX_CHARACTERS = 4_000  # of a text: bounds the work that one hostile query or item can cause


def terms_of(text: str) -> list[str]:
    """Terms in order: case-folded words without accents, numbers, and character bigrams of unspaced scripts.

    Letters and digits that touch are parted ("12x24in" -> 12, x, 24, in); a unit behind a number has one spelling
    ("24 inches", "24-inch" and 24" -> 24, in). English plural endings are cut off words of
    Latin letters, which is harmless elsewhere, since queries and items are treated alike.
    """
    # Compatibility characters may hide capitals (the sign for MHz), so they are taken apart before the case is folded.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text[:MAX_CHARACTERS]).casefold())
    # The marks of unspaced scripts are letters, not accents: without its marks, Japanese "glass" would read "crow".
    plain = "".join(c for c in folded if not unicodedata.combining(c) or _RUN.match(c))
    plain = unicodedata.normalize("NFC", plain).translate(_ARABIC)
    for mark, unit in _MARKS:
        plain = mark.sub(unit, plain)
    found: list[str] = []
    for token in _TOKEN.findall(_BETWEEN.sub(" ", plain)):
        if _RUN.match(token):
            found += [token[i : i + 2] for i in range(max(len(token) - 1, 1))]
        else:
            term = _singular(token)
            found.append(_UNIT_OF.get(term, term) if found and is_number(found[-1]) else term)
    return found


MAX_QUERY_TERMS = 64


@lru_cache(maxsize=64)
def query_terms(query: str) -> tuple[str, ...]:
    """The first MAX_QUERY_TERMS terms of a query, worked out once for all features that read them."""
    return tuple(terms_of(query)[:MAX_QUERY_TERMS])


def is_number(term: str) -> bool:
    """True for a term made by a run of digits."""
    return term[0].isdigit()


def is_unit(term: str) -> bool:
    """True for a unit's term, as it stands behind a number."""
    return term in _SPELLINGS


def trigrams_of(terms: Iterable[str]) -> NDArray[np.int32]:
    """Sorted distinct 31-bit hashes of the character trigrams of each term, with its ends marked: (N,) int32."""
    hashes = frozenset[int]().union(*map(_trigrams_of_term, terms))
    return np.array(sorted(hashes), dtype=np.int32)


@lru_cache(maxsize=1 << 16)  # a corpus has far more words than different ones
def _trigrams_of_term(term: str) -> frozenset[int]:
    marked = f"^{term}$"
    return frozenset(zlib.crc32(marked[i : i + 3].encode()) & 0x7FFFFFFF for i in range(len(term)))


def _singular(word: str) -> str:
    if len(word) > 4 and word.isascii():
        if word.endswith("ies"):
            return word[:-3] + "y"
        if word.endswith(("sses", "shes", "ches", "xes")):
            return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
