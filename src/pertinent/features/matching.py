"""Where the terms of one query stand in the texts of many items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pertinent.features.corpus import FIELDS, UNKNOWN, CorpusStatistics
from pertinent.features.ragged import Ragged
from pertinent.features.terms import is_number, query_terms, trigrams_of


@dataclass(frozen=True)
class AskedTerms:
    """A query's Q terms. ids: (Q,). slots: (Q,) int64, a term's place among the U different known ones, U if unknown."""

    terms: tuple[str, ...]
    ids: NDArray[np.int32]
    slots: NDArray[np.int64]
    known: NDArray[np.int32]  # (U,) ids
    numbers: NDArray[np.bool_]
    grams: NDArray[np.int32]
    idf: NDArray[np.float64]  # (fields, Q)

    @classmethod
    def of(cls, query: str, statistics: CorpusStatistics) -> AskedTerms:
        terms = query_terms(query)
        ids = statistics.ids(terms)
        places = {i: place for place, i in enumerate(dict.fromkeys(i for i in ids if i != UNKNOWN))}
        return cls(
            terms,
            np.array(ids, dtype=np.int32),
            np.array([places.get(i, len(places)) for i in ids], dtype=np.int64),
            np.array(list(places), dtype=np.int32),
            np.array([is_number(term) for term in terms], dtype=bool),
            trigrams_of(terms),
            np.array([idf_of(ids, statistics, field) for field in FIELDS]),
        )


@dataclass(frozen=True)
class Matches:
    """Where terms of the query stand, in the order of the texts; M places in R texts (each field of an item is one).

    texts, slots, places, positions: (M,) int64: which text, which known term, where in all texts and in its own.
    follows: (M - 1,) bool: whether match m + 1 is the very next term of the same text.
    """

    n_texts: int
    texts: NDArray[np.int64]
    slots: NDArray[np.int64]
    places: NDArray[np.int64]
    positions: NDArray[np.int64]
    same: NDArray[np.bool_]  # (M - 1,) match m + 1 is in the same text
    follows: NDArray[np.bool_]

    @classmethod
    def of(cls, query: AskedTerms, field: Ragged, n_terms: int) -> Matches:
        slot_of = np.zeros(n_terms + 1, dtype=np.int8)  # the last is UNKNOWN's
        slot_of[query.known] = np.arange(1, query.known.size + 1)
        found = slot_of[field.values]
        places = np.flatnonzero(found)
        texts = np.searchsorted(field.starts, places, side="right") - 1
        same = texts[1:] == texts[:-1]
        slots = found[places].astype(np.int64) - 1
        return cls(
            len(field), texts, slots, places, places - field.starts[texts], same, same & (np.diff(places) == 1)
        )  # fmt: skip

    def counts(self, query: AskedTerms) -> NDArray[np.int64]:
        """(Q, R): how often each term of the query stands in each text."""
        n_slots = query.known.size + 1  # the last stays empty: it is the unknown terms'
        flat = np.bincount(self.slots * self.n_texts + self.texts, minlength=n_slots * self.n_texts)
        return flat.reshape(n_slots, self.n_texts)[query.slots]

    def adjacent(self, query: AskedTerms) -> NDArray[np.bool_]:
        """(Q - 1, R): whether terms i and i + 1 of the query stand next to one another, in order."""
        n_slots = query.known.size + 1
        wanted = query.slots[:-1] * n_slots + query.slots[1:]
        codes, row_of = np.unique(wanted, return_inverse=True)
        row = np.full(n_slots * n_slots, -1, dtype=np.int64)
        row[codes] = np.arange(codes.size)
        behind = np.flatnonzero(self.follows)
        rows = row[self.slots[behind] * n_slots + self.slots[behind + 1]]
        flags = np.zeros((codes.size, self.n_texts), dtype=bool)
        flags[rows[rows >= 0], self.texts[behind[rows >= 0]]] = True
        return flags[row_of]

    def phrase(self, query: AskedTerms) -> NDArray[np.bool_]:
        """(R,): whether the whole query, of two terms or more, stands in the text."""
        n_terms, held = query.slots.size, np.zeros(self.n_texts, dtype=bool)
        n_starts = self.slots.size - n_terms + 1
        if n_starts <= 0:
            return held
        # Every place of a phrase is a match, so its matches are neighbours here.
        whole = self.slots[:n_starts] == query.slots[0]
        for k in range(1, n_terms):
            whole &= self.follows[k - 1 : k - 1 + n_starts] & (self.slots[k : k + n_starts] == query.slots[k])
        held[self.texts[:n_starts][whole]] = True
        return held


def idf_of(ids: Sequence[int], statistics: CorpusStatistics, field: str) -> NDArray[np.float64]:
    """(Q,) float64 of term ids in a field."""
    # A term that no item has is as rare as can be.
    rarest = np.log1p((statistics.n_items + 0.5) / 0.5)
    of_term = statistics.idf[field]
    return np.array([of_term[i] if i != UNKNOWN else rarest for i in ids], dtype=np.float64)
