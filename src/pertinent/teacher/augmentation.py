"""Changes to training pairs that real traffic has too: typing errors in queries, items with fields missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pertinent.text.representation import SEPARATOR

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SHORTEST = 4  # letters of a word that may be misspelled


def drop_fields(fields: Sequence[str], chance: float, rng: np.random.Generator) -> str:
    """The item text with each field left out by chance; where all would go, the first one stays.

    fields: the tagged fields of a text, as `split_fields` gives them.
    """
    kept = [field for field, draw in zip(fields, rng.random(len(fields)), strict=True) if draw >= chance]
    return SEPARATOR.join(kept or fields[:1])


def misspell(query: str, rng: np.random.Generator) -> str:
    """The query with one random typing error: a letter left out, doubled, changed, or swapped with the next.

    The error is in a word of at least four ASCII letters, after its first one; a query without such a word is kept.
    """
    words = query.split(" ")
    candidates = [i for i, word in enumerate(words) if len(word) >= _SHORTEST and word.isascii() and word.isalpha()]
    if not candidates:
        return query
    chosen = candidates[int(rng.integers(len(candidates)))]
    word = words[chosen]
    at = int(rng.integers(1, len(word) - 1))
    kind = int(rng.integers(4))
    letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
    edits = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    )
    words[chosen] = edits[kind]
    return " ".join(words)
