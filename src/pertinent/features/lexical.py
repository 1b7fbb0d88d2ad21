"""Lexical features of one query against many items, per field, from frozen corpus statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pertinent.features.declare import FeatureSpec, Kind
from pertinent.features.ragged import Ragged
from pertinent.features.terms import is_number, is_unit, terms_of, trigrams_of

K1, B = 1.2, 0.75  # of BM25; Robertson and Zaragoza 2009, section 3.2
FIELDS = ("title", "body")
MAX_QUERY_TERMS = 64
UNKNOWN = -1  # a query term that no item of the corpus has

_PER_FIELD = (
    "bm25",  # BM25, Lucene's idf
    "matched",  # share of query terms in the field
    "matched_idf",  # the same, weighted by idf
    "matched_max_idf",  # 1 if the query's rarest term is in the field
    "ordered",  # share of adjacent query terms that are adjacent and in order in the field
    "phrase",  # 1 if the whole query stands in the field
    "proximity",  # 1 / the least distance between two different query terms, 0 where fewer than two match
    "position",  # 1 / (1 + position of the first matching term), 0 where none matches
    "trigram_query",  # share of the query's character trigrams in the field: survives misspellings
    "trigram_jaccard",  # trigrams in both over trigrams in either
    "numbers",  # share of the query's numbers in the field, 1 where the query has none
    "measures",  # share of the query's measures (a number and its unit) in the field, 1 where the query has none
    "other_measure",  # share of them whose unit stands in the field behind other numbers only
    "log_length",  # log(1 + terms in the field)
)
_ANYWHERE = ("matched_anywhere", "matched_idf_anywhere", "trigram_anywhere")
_QUERY = ("query_log_terms", "query_mean_idf", "query_max_idf", "query_unknown", "query_numbers")


def feature_specs() -> tuple[FeatureSpec, ...]:
    """The lexical features in the order of their columns."""
    kinds: dict[str, Kind] = {"log_length": "item"}
    # What an item without the field, or an empty query, has.
    defaults = {"numbers": 1.0, "measures": 1.0}
    per_field = [
        FeatureSpec(f"{field}.{name}", kinds.get(name, "query-item"), field, defaults.get(name, 0.0))
        for field in FIELDS
        for name in _PER_FIELD
    ]
    anywhere = [FeatureSpec(name, "query-item", "title and body") for name in _ANYWHERE]
    return (*per_field, *anywhere, *(FeatureSpec(name, "query", "query") for name in _QUERY))


FEATURE_NAMES = tuple(spec.name for spec in feature_specs())


@dataclass(frozen=True)
class CorpusStatistics:
    """Frozen when the student is trained, and served unchanged, so that a feature never drifts with the index.

    terms: term -> id. idf: field -> (n_terms,) float64. mean_length: field -> terms. n_items: items counted.
    """

    terms: Mapping[str, int]
    idf: Mapping[str, NDArray[np.float64]]
    mean_length: Mapping[str, float]
    n_items: int

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
        return cls(terms, idf, mean_length, n_items)

    @cached_property
    def is_number(self) -> NDArray[np.bool_]:
        """(n_terms + 1,) bool: by term id; the last, which UNKNOWN points to, is False."""
        return np.array([*map(is_number, self.terms), False], dtype=bool)

    def ids(self, terms: Iterable[str]) -> list[int]:
        """Ids of terms; UNKNOWN for one that the corpus does not have."""
        return [self.terms.get(term, UNKNOWN) for term in terms]


@dataclass(frozen=True)
class LexicalItems:
    """The terms (in order) and character trigrams of each item's fields: what a store keeps for these features."""

    terms: Mapping[str, Ragged]
    trigrams: Mapping[str, Ragged]

    @classmethod
    def of(cls, texts: Mapping[str, Sequence[str]], statistics: CorpusStatistics) -> LexicalItems:
        """From field -> the text of each item."""
        terms, trigrams = {}, {}
        for field in FIELDS:
            rows = [terms_of(text) for text in texts[field]]
            # A term outside the statistics keeps its place, so that lengths and positions are true.
            terms[field] = Ragged.of([statistics.ids(row) for row in rows])
            trigrams[field] = Ragged.of([trigrams_of(row) for row in rows])
        return cls(terms, trigrams)

    def take(self, rows: NDArray[np.int64]) -> LexicalItems:
        """The items at these positions."""
        return LexicalItems(
            {field: ragged.take(rows) for field, ragged in self.terms.items()},
            {field: ragged.take(rows) for field, ragged in self.trigrams.items()},
        )


def lexical_features(query: str, items: LexicalItems, statistics: CorpusStatistics) -> NDArray[np.float32]:
    """Features of one query against C items: (C, F) float32, columns in the order of FEATURE_NAMES.

    An empty query or an empty field gives 0 everywhere but in lengths, "numbers" and "measures" (1: nothing is missing).
    """
    terms = terms_of(query)[:MAX_QUERY_TERMS]
    ids = np.array(statistics.ids(terms), dtype=np.int32)
    grams = trigrams_of(terms)
    n_items = len(items.terms[FIELDS[0]])
    numbers = np.array([is_number(term) for term in terms], dtype=bool)
    columns: list[NDArray[np.float64]] = []
    found_anywhere = np.zeros((ids.size, n_items), dtype=bool)
    grams_anywhere = np.zeros(n_items)
    for field in FIELDS:
        idf = _idf(ids, statistics, field)
        counts, matches = _term_counts(ids, items.terms[field])
        found = counts > 0
        found_anywhere |= found
        shared = _shared(grams, items.trigrams[field])
        grams_anywhere = np.maximum(grams_anywhere, shared)
        lengths = items.terms[field].lengths
        columns += [
            _bm25(counts, idf, lengths / statistics.mean_length[field]),
            _share(found, np.ones(ids.size)),
            _share(found, idf),
            found[int(np.argmax(idf))].astype(float) if ids.size else np.zeros(n_items),
            *_order(matches, items.terms[field]),
            _proximity(matches, items.terms[field]),
            _first_position(matches, items.terms[field]),
            shared / max(grams.size, 1),
            shared / np.maximum(grams.size + items.trigrams[field].lengths - shared, 1),
            _share(found[numbers], np.ones(int(numbers.sum()))) if numbers.any() else np.ones(n_items),
            *_measures(terms, matches, items.terms[field], statistics),
            np.log1p(lengths),
        ]
    idf = np.maximum.reduce([_idf(ids, statistics, field) for field in FIELDS]) if ids.size else np.zeros(0)
    columns += [_share(found_anywhere, np.ones(ids.size)), _share(found_anywhere, idf)]
    columns.append(grams_anywhere / max(grams.size, 1))
    columns += [np.full(n_items, value) for value in _query_values(ids, idf, numbers)]
    return np.stack(columns, axis=1).astype(np.float32)


def bm25_scores(query: str, items: LexicalItems, statistics: CorpusStatistics, field: str) -> NDArray[np.float64]:
    """BM25 of one query against C items in one field: (C,) float64.

    Sum over query terms of idf * tf / (tf + k1 * (1 - b + b * length / mean length)), times (k1 + 1).
    Source: Robertson and Zaragoza 2009, section 3.2, with Lucene's idf. Oracle: bm25s, method "lucene", which
    leaves out the constant k1 + 1 (tests/).
    """
    ids = np.array(statistics.ids(terms_of(query)[:MAX_QUERY_TERMS]), dtype=np.int32)
    counts, _ = _term_counts(ids, items.terms[field])
    lengths = items.terms[field].lengths / statistics.mean_length[field]
    return _bm25(counts, _idf(ids, statistics, field), lengths)


def _idf(ids: NDArray[np.int32], statistics: CorpusStatistics, field: str) -> NDArray[np.float64]:
    # A term that no item has is as rare as can be.
    idf = np.full(ids.size, np.log1p((statistics.n_items + 0.5) / 0.5))
    known = ids != UNKNOWN
    idf[known] = statistics.idf[field][ids[known]]
    return idf


def _term_counts(ids: NDArray[np.int32], field: Ragged) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How often each query term stands in each item, (Q, C), and where, (Q, total)."""
    matches = (field.values[None, :] == ids[:, None]) & (ids[:, None] != UNKNOWN)
    return field.sums(matches.astype(np.float64)), matches


def _bm25(counts: NDArray[np.float64], idf: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    saturation = counts * (K1 + 1) / (counts + K1 * (1 - B + B * lengths))
    return np.asarray(idf @ saturation, dtype=np.float64)


def _share(found: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total = weights.sum()
    return np.asarray(weights @ found / total if total > 0 else np.zeros(found.shape[1]), dtype=np.float64)


def _shared(grams: NDArray[np.int32], field: Ragged) -> NDArray[np.float64]:
    if not grams.size:
        return np.zeros(len(field))
    places = np.minimum(np.searchsorted(grams, field.values), grams.size - 1)
    return field.sums((grams[places] == field.values).astype(np.float64))


def _order(matches: NDArray[np.bool_], field: Ragged) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of adjacent query terms found adjacent and in order; and whether the whole query is a phrase."""
    n_terms, total = matches.shape
    n_items = len(field)
    if n_terms == 0 or total == 0:
        return np.zeros(n_items), np.zeros(n_items)
    last = np.zeros(total, dtype=bool)
    ends = field.starts[1:][field.lengths > 0] - 1
    last[ends] = True
    run = matches[0]
    pairs = np.zeros(n_items)
    for i in range(1, n_terms):
        # run[p]: terms 0..i stand at consecutive places that end at p, all within one item.
        previous_run = np.concatenate([[False], (run & ~last)[:-1]])
        previous = np.concatenate([[False], (matches[i - 1] & ~last)[:-1]])
        pairs += field.sums((previous & matches[i]).astype(np.float64)) > 0
        run = previous_run & matches[i]
    phrase = (field.sums(run.astype(np.float64)) > 0).astype(np.float64)
    return (pairs / (n_terms - 1) if n_terms > 1 else phrase), phrase


def _proximity(matches: NDArray[np.bool_], field: Ragged) -> NDArray[np.float64]:
    places = np.flatnonzero(matches.any(axis=0))
    items = np.searchsorted(field.starts, places, side="right") - 1
    # The two nearest different terms have no third between them, so neighbours among the matches are enough.
    near = (items[1:] == items[:-1]) & (field.values[places[1:]] != field.values[places[:-1]])
    result = np.zeros(len(field))
    np.maximum.at(result, items[1:][near], 1.0 / np.diff(places)[near])
    return result


def _measures(
    terms: Sequence[str], matches: NDArray[np.bool_], field: Ragged, statistics: CorpusStatistics
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the query's measures: the share that stands in the field, and the share whose unit only follows other numbers."""
    n_items, total = len(field), field.values.size
    wanted = [i for i in range(1, len(terms)) if is_number(terms[i - 1]) and is_unit(terms[i])]
    found, other = np.zeros(n_items), np.zeros(n_items)
    if not wanted:
        return found + 1.0, other
    inner = np.ones(total, dtype=bool)  # places with a term before them in the same item
    inner[field.starts[:-1][field.lengths > 0]] = False
    behind_number = np.concatenate([[False], statistics.is_number[field.values][:-1]])[:total] & inner
    for i in wanted:
        same = np.concatenate([[False], matches[i - 1][:-1]])[:total] & inner & matches[i]
        has = field.sums(same.astype(np.float64)) > 0
        found += has
        other += ~has & (field.sums((behind_number & matches[i]).astype(np.float64)) > 0)
    return found / len(wanted), other / len(wanted)


def _first_position(matches: NDArray[np.bool_], field: Ragged) -> NDArray[np.float64]:
    places = np.flatnonzero(matches.any(axis=0))
    result = np.zeros(len(field))
    items = np.searchsorted(field.starts, places, side="right") - 1
    owners, first = np.unique(items, return_index=True)
    result[owners] = 1.0 / (1.0 + places[first] - field.starts[owners])
    return result


def _query_values(ids: NDArray[np.int32], idf: NDArray[np.float64], numbers: NDArray[np.bool_]) -> list[float]:
    if not ids.size:
        return [0.0] * len(_QUERY)
    unknown = float((ids == UNKNOWN).mean())
    return [float(np.log1p(ids.size)), float(idf.mean()), float(idf.max()), unknown, float(numbers.mean())]
