"""Pinboard's queries: somebody wants an object, sometimes with one or two of its attributes, and types it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pertinent.data.pinboard.draw import Draw
from pertinent.data.pinboard.items import Pin, name_of
from pertinent.data.pinboard.size import PinboardSize
from pertinent.data.pinboard.truth import Concept
from pertinent.data.pinboard.words import Words
from pertinent.data.splits import SPLITS, normalise_query, split_of
from pertinent.types import Split

_SHARE_OF_N_ASKED = (0.15, 0.45, 0.4)  # 0, 1 or 2 attributes
_SHARE_TYPOS = 0.1
_MAX_DRAWS = 100_000


@dataclass(frozen=True)
class Query:
    """A query with its truth. split: by the default rule of `pertinent.data.splits`. judged: raters have graded it."""

    text: str
    language: str
    asked: Concept = field(hash=False)
    split: Split
    judged: bool


def make_queries(
    draw: Draw, pins: Sequence[Pin], words: Mapping[str, Words], size: PinboardSize
) -> dict[str, list[Query]]:
    """The queries of each language, no two with the same normalised text over all languages.

    A query is judged where its split still needs one: so English has judged queries in every split, the other
    languages only in test. Raises RuntimeError where the vocabulary cannot give that many (a fault of ours).
    """
    seen: set[str] = set()
    n_in_log = size.per_language(size.n_log_queries, tuple(words))
    return {
        code: _of_language(draw, [pin for pin in pins if pin.language == code], own, n_in_log[code], size, seen)
        for code, own in words.items()
    }


def _of_language(
    draw: Draw, pins: Sequence[Pin], words: Words, n_in_log: int, size: PinboardSize, seen: set[str]
) -> list[Query]:
    wanted = dict.fromkeys(SPLITS, 0) | {"test": size.n_test_queries}
    if words.code == "en":
        wanted |= {"train": size.n_train_queries, "dev": size.n_dev_queries}
    queries: list[Query] = []
    for _ in range(_MAX_DRAWS):
        if len(queries) >= n_in_log and not any(wanted.values()):
            return queries
        asked = _asked(draw, draw.pick(pins).concept)
        text = _text(draw, asked, words)
        key = normalise_query(text)
        if key in seen:
            continue
        seen.add(key)
        split = split_of(text)
        judged = wanted[split] > 0
        wanted[split] -= judged
        queries.append(Query(text, words.code, asked, split, judged))
    raise RuntimeError(f"pinboard: {words.code}: found only {len(queries)} queries; still wanted {wanted}")


def _asked(draw: Draw, concept: Concept) -> Concept:
    n_asked = draw.weighted((0, 1, 2), _SHARE_OF_N_ASKED)
    kinds = draw.sample(list(concept.values), n_asked)
    values = {kind: concept.values[kind] for kind in kinds}
    return Concept(concept.category, concept.group, concept.object, values)


def _text(draw: Draw, asked: Concept, words: Words) -> str:
    phrase = words.query_phrase(name_of(draw, words, asked.object), asked.values)
    if words.latin and draw.chance(_SHARE_TYPOS):
        phrase = with_typo(draw, phrase)
    text = draw.pick(words.queries).replace("{x}", phrase)
    return text.lower() if draw.chance(0.6) else text


def with_typo(draw: Draw, phrase: str) -> str:
    """The phrase with two letters of its longest word swapped, or one of them left out or doubled.

    The first letter stays, as it mostly does; a word of fewer than four letters is left alone.
    """
    words = phrase.split(" ")
    longest = max(range(len(words)), key=lambda index: len(words[index]))
    word = words[longest]
    if len(word) < 4:
        return phrase
    at = draw.whole(1, len(word) - 2)
    head, letter, following, tail = word[:at], word[at], word[at + 1], word[at + 2 :]
    middle = draw.pick((following + letter, following, letter + letter + following))
    words[longest] = head + middle + tail
    return " ".join(words)
