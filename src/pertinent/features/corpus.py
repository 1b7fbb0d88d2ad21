"""What lexical features are counted from: frozen corpus statistics, and the terms of each item as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pertinent.features.ragged import Ragged
from pertinent.features.strings import ABSENT, StringTable
from pertinent.features.terms import is_number, terms_of, trigrams_of

FIELDS = ("title", "body")
UNKNOWN = ABSENT  # a query term that no item of the corpus has
WORD_BITS = 64  # trigrams of a query that are looked for at a time


@dataclass(frozen=True)
class GramIndex:
    """Which terms of the corpus hold a character trigram.

    hashes: (G,) int32, sorted. terms: G rows of term ids, ascending: those that hold it.
    """

    hashes: NDArray[np.int32]
    terms: Ragged

    @classmethod
    def of(cls, terms: Iterable[str]) -> GramIndex:
        """Of the corpus's terms in the order of their ids."""
        rows = Ragged.of([trigrams_of([term]) for term in terms])
        owners = np.repeat(np.arange(len(rows), dtype=np.int32), rows.lengths)
        order = np.argsort(rows.values, kind="stable")
        hashes, first = np.unique(rows.values[order], return_index=True)
        return cls(hashes, Ragged(owners[order], np.append(first, order.size).astype(np.int64)))

    def holders(self, grams: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """For sorted hashes of trigrams: places in ``grams`` and terms, an entry for each term that holds one."""
        places = np.searchsorted(self.hashes, grams)
        inside = np.flatnonzero(places < self.hashes.size)
        known = inside[self.hashes[places[inside]] == grams[inside]]
        rows = self.terms.take(places[known])
        return np.repeat(known, rows.lengths), rows.values


@dataclass(frozen=True)
class CorpusStatistics:
    """Frozen when the student is trained, and served unchanged, so that a feature never drifts with the index.

    terms: term -> id, in the order of the terms. idf: field -> (n_terms,) float64. mean_length: field -> terms. n_items: items counted.
    numbers: (n_terms + 1,) bool: whether a term is a number; the last, which UNKNOWN points to, is False.
    """

    terms: StringTable
    idf: Mapping[str, NDArray[np.float64]]
    mean_length: Mapping[str, float]
    n_items: int
    numbers: NDArray[np.bool_]
    grams: GramIndex

    @classmethod
    def of(cls, fields: Mapping[str, Iterable[Sequence[str]]]) -> CorpusStatistics:
        """Count a corpus. fields: field -> the terms of each item, the same items in the same order."""
        lists = {field: list(rows) for field, rows in fields.items()}
        terms = {term: i for i, term in enumerate(sorted({t for rows in lists.values() for row in rows for t in row}))}
        n_items = len(next(iter(lists.values())))
        idf, mean_length = {}, {}
        for field, rows in lists.items():
            frequency = np.zeros(len(terms))
            for row in rows:
                frequency[[terms[term] for term in set(row)]] += 1
            # Lucene's idf: positive for every term.
            idf[field] = np.log1p((n_items - frequency + 0.5) / (frequency + 0.5))
            mean_length[field] = float(np.mean([len(row) for row in rows])) or 1.0
        numbers = np.array([*map(is_number, terms), False], dtype=bool)
        return cls(StringTable.of(list(terms)), idf, mean_length, n_items, numbers, GramIndex.of(terms))

    def ids(self, terms: Iterable[str]) -> list[int]:
        """Ids of terms; UNKNOWN for one that the corpus does not have."""
        found: list[int] = self.terms.find(list(terms)).tolist()
        return found

    @cached_property
    def _free_masks(self) -> list[NDArray[np.uint64]]:
        return []

    @contextmanager
    def gram_masks(self, grams: NDArray[np.int32]) -> Iterator[NDArray[np.uint64]]:
        """(n_terms + 1,) uint64: bit k of a term is set if it holds trigram k of at most 64; 0 for UNKNOWN.

        The array is lent: one as long as the vocabulary is too dear to make for each query.
        """
        places, terms = self.grams.holders(grams)
        try:
            masks = self._free_masks.pop()  # one operation, so that two threads never get the same
        except IndexError:
            masks = np.zeros(len(self.terms) + 1, dtype=np.uint64)
        try:
            np.bitwise_or.at(masks, terms, np.uint64(1) << places.astype(np.uint64))
            yield masks
        finally:
            masks[terms] = 0
            self._free_masks.append(masks)


@dataclass(frozen=True)
class LexicalItems:
    """What a store keeps of each item for lexical features, by field.

    terms: ids in order, UNKNOWN for a term that the statistics lack. n_grams: (N,) int32, distinct character trigrams.
    rare_grams: sorted hashes of the trigrams of its UNKNOWN terms, which no id stands for; mostly none.
    """

    terms: Mapping[str, Ragged]
    n_grams: Mapping[str, NDArray[np.int32]]
    rare_grams: Mapping[str, Ragged]

    @classmethod
    def of(cls, texts: Mapping[str, Sequence[str]], statistics: CorpusStatistics) -> LexicalItems:
        """From field -> the text of each item."""
        return cls.of_terms({field: [terms_of(text) for text in texts[field]] for field in FIELDS}, statistics)

    @classmethod
    def of_terms(cls, fields: Mapping[str, Sequence[Sequence[str]]], statistics: CorpusStatistics) -> LexicalItems:
        """From field -> the terms of each item's text, in order."""
        terms, n_grams, rare = {}, {}, {}
        for field in FIELDS:
            rows = fields[field]
            words = list({term for row in rows for term in row})
            id_of = dict(zip(words, statistics.ids(words), strict=True))
            # A term outside the statistics keeps its place, so that lengths and positions are true.
            terms[field] = Ragged.of([[id_of[term] for term in row] for row in rows])
            n_grams[field] = np.array([trigrams_of(row).size for row in rows], dtype=np.int32)
            outside = ([term for term in row if id_of[term] == UNKNOWN] for row in rows)
            rare[field] = Ragged.of([trigrams_of(row) for row in outside])
        return cls(terms, n_grams, rare)

    def __len__(self) -> int:
        return len(self.terms[FIELDS[0]])

    def take(self, rows: NDArray[np.int64]) -> LexicalItems:
        """The items at these positions."""
        return LexicalItems(
            {field: ragged.take(rows) for field, ragged in self.terms.items()},
            {field: counts[rows] for field, counts in self.n_grams.items()},
            {field: ragged.take(rows) for field, ragged in self.rare_grams.items()},
        )

    @classmethod
    def joined(cls, parts: Sequence[LexicalItems]) -> LexicalItems:
        """The items of each part, one part after the other."""
        return cls(
            {field: Ragged.joined([part.terms[field] for part in parts]) for field in FIELDS},
            {field: np.concatenate([part.n_grams[field] for part in parts]) for field in FIELDS},
            {field: Ragged.joined([part.rare_grams[field] for part in parts]) for field in FIELDS},
        )
