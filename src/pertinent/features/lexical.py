"""Lexical features of one query against many items, per field, from frozen corpus statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pertinent.features.corpus import FIELDS, UNKNOWN, WORD_BITS, CorpusStatistics, LexicalItems
from pertinent.features.declare import FeatureSpec, Kind
from pertinent.features.matching import AskedTerms, Matches
from pertinent.features.ragged import Ragged
from pertinent.features.terms import is_unit

K1, B = 1.2, 0.75  # of BM25; Robertson and Zaragoza 2009, section 3.2

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


def lexical_features(query: str, items: LexicalItems, statistics: CorpusStatistics) -> NDArray[np.float32]:
    """Features of one query against C items: (C, F) float32, columns in the order of FEATURE_NAMES.

    An empty query or an empty field gives 0 everywhere but in lengths, "numbers" and "measures" (1: nothing is missing).
    An item's features do not depend on the other items, to the last bit.
    """
    asked = AskedTerms.of(query, statistics)
    n_items = len(items)
    texts = Ragged.joined([items.terms[field] for field in FIELDS])
    shape = (len(FIELDS), n_items)
    columns = np.empty((len(FEATURE_NAMES), n_items), dtype=np.float32)
    per_field = columns[: len(FIELDS) * len(_PER_FIELD)].reshape(len(FIELDS), len(_PER_FIELD), n_items)
    counts, values = _match_features(asked, texts, statistics, shape)
    found = counts > 0
    lengths = texts.lengths.reshape(shape)
    relative = lengths / np.array([[statistics.mean_length[field]] for field in FIELDS])
    shared, anywhere = _shared_grams(asked.grams, texts, items, statistics)
    n_grams = np.stack([items.n_grams[field] for field in FIELDS])
    n_numbers = int(asked.numbers.sum())
    values |= {
        "bm25": _bm25(counts, asked.idf.T[:, :, None], relative),
        "matched": _counted(found) / max(asked.ids.size, 1),
        "matched_idf": _idf_share(found, asked.idf),
        "matched_max_idf": _of_rarest(found, asked.idf),
        "trigram_query": shared / max(asked.grams.size, 1),
        "trigram_jaccard": shared / np.maximum(asked.grams.size + n_grams - shared, 1),
        "numbers": _counted(found[asked.numbers]) / n_numbers if n_numbers else np.ones(shape),
        "log_length": np.log1p(lengths),
    }
    for k, name in enumerate(_PER_FIELD):
        per_field[:, k] = values[name]
    in_either = np.logical_or.reduce(found, axis=1, keepdims=True)
    idf = asked.idf.max(axis=0, keepdims=True)
    columns[-len(_QUERY) - 3] = _counted(in_either)[0] / max(asked.ids.size, 1)
    columns[-len(_QUERY) - 2] = _idf_share(in_either, idf)[0]
    columns[-len(_QUERY) - 1] = anywhere / max(asked.grams.size, 1)
    columns[-len(_QUERY) :] = np.array(_query_values(asked.ids, idf[0], asked.numbers))[:, None]
    return np.ascontiguousarray(columns.T)


def bm25_scores(query: str, items: LexicalItems, statistics: CorpusStatistics, field: str) -> NDArray[np.float64]:
    """BM25 of one query against C items in one field: (C,) float64.

    Sum over query terms of idf * tf / (tf + k1 * (1 - b + b * length / mean length)), times (k1 + 1).
    Source: Robertson and Zaragoza 2009, section 3.2, with Lucene's idf. Oracle: bm25s, method "lucene", which
    leaves out the constant k1 + 1 (tests/).
    """
    asked = AskedTerms.of(query, statistics)
    terms = items.terms[field]
    counts = Matches.of(asked, terms, len(statistics.terms)).counts(asked)
    return _bm25(counts, asked.idf[FIELDS.index(field)][:, None], terms.lengths / statistics.mean_length[field])


def _match_features(
    query: AskedTerms, texts: Ragged, statistics: CorpusStatistics, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Counts (Q, fields, C), and what the places of matches tell, each (fields, C)."""
    matches = Matches.of(query, texts, len(statistics.terms))
    counts = matches.counts(query)
    n_terms = query.slots.size
    if n_terms > 1:
        adjacent = matches.adjacent(query)
        ordered, phrase = adjacent.sum(axis=0) / (n_terms - 1), matches.phrase(query)
        measures, other = _measures(query, matches, adjacent, texts, statistics)
    else:
        phrase = np.logical_or.reduce(counts > 0, axis=0)
        ordered = phrase.astype(np.float64)
        measures, other = np.ones(len(texts)), np.zeros(len(texts))
    values = {"ordered": ordered, "phrase": phrase.astype(np.float64), "measures": measures, "other_measure": other}
    values |= {"proximity": _proximity(matches), "position": _first_position(matches)}
    return counts.reshape(n_terms, *shape), {name: value.reshape(shape) for name, value in values.items()}


def _bm25(counts: NDArray[np.int64], idf: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """counts: (Q, ...); idf: (Q, ..., 1); lengths: (...), each over the field's mean."""
    return _summed(idf * (counts * (K1 + 1) / (counts + K1 * (1 - B + B * lengths))))


def _summed(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the first axis, term after term: the last bits of any other sum depend on how many items there are."""
    return np.cumsum(terms, axis=0)[-1] if terms.shape[0] else np.zeros(terms.shape[1:])


def _counted(found: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(found.sum(axis=0), dtype=np.int64)


def _idf_share(found: NDArray[np.bool_], idf: NDArray[np.float64]) -> NDArray[np.float64]:
    """found: (Q, fields, C); idf: (fields, Q) -> (fields, C)."""
    total = _summed(idf.T)[:, None]
    return _summed(found * idf.T[:, :, None]) / np.where(total > 0, total, 1.0)


def _of_rarest(found: NDArray[np.bool_], idf: NDArray[np.float64]) -> NDArray[np.float64]:
    if not idf.shape[1]:
        return np.zeros(found.shape[1:])
    return np.stack([found[rarest, k] for k, rarest in enumerate(idf.argmax(axis=1))]).astype(np.float64)


def _shared_grams(
    grams: NDArray[np.int32], texts: Ragged, items: LexicalItems, statistics: CorpusStatistics
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the query's trigrams, how many each field of each item has, (fields, C), and the most of any one field, (C,)."""
    shared = np.zeros(len(texts), dtype=np.int64)
    filled = np.flatnonzero(texts.lengths)
    rare = Ragged.joined([items.rare_grams[field] for field in FIELDS])
    owners = np.repeat(np.arange(len(texts)), rare.lengths)
    for start in range(0, grams.size, WORD_BITS):
        part = grams[start : start + WORD_BITS]
        held = np.zeros(len(texts), dtype=np.uint64)
        with statistics.gram_masks(part) as masks:
            if filled.size:
                held[filled] = np.bitwise_or.reduceat(masks[texts.values], texts.starts[filled])
        if rare.values.size:
            places = np.minimum(np.searchsorted(part, rare.values), part.size - 1)
            there = part[places] == rare.values
            np.bitwise_or.at(held, owners[there], np.uint64(1) << places[there].astype(np.uint64))
        shared += np.bitwise_count(held)
    by_field = shared.reshape(len(FIELDS), -1)
    return by_field, by_field.max(axis=0)


def _proximity(matches: Matches) -> NDArray[np.float64]:
    # The two nearest different terms have no third between them, so neighbours among the matches are enough.
    near = np.flatnonzero(matches.same & (matches.slots[1:] != matches.slots[:-1]))
    result = np.zeros(matches.n_texts)
    np.maximum.at(result, matches.texts[near], 1.0 / (matches.places[near + 1] - matches.places[near]))
    return result


def _measures(
    query: AskedTerms, matches: Matches, adjacent: NDArray[np.bool_], texts: Ragged, statistics: CorpusStatistics
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the query's measures: the share that stands in the text, and the share whose unit only follows other numbers."""
    wanted = [i for i in range(1, len(query.terms)) if query.numbers[i - 1] and is_unit(query.terms[i])]
    if not wanted:
        return np.ones(len(texts)), np.zeros(len(texts))
    inner = np.flatnonzero(matches.positions > 0)
    behind = inner[statistics.numbers[texts.values[matches.places[inner] - 1]]]  # matches behind any number
    has = adjacent[np.array(wanted) - 1]
    numbered = np.zeros_like(has)
    for k, i in enumerate(wanted):
        numbered[k, matches.texts[behind[matches.slots[behind] == query.slots[i]]]] = True
    return _counted(has) / len(wanted), _counted(numbered & ~has) / len(wanted)


def _first_position(matches: Matches) -> NDArray[np.float64]:
    result = np.zeros(matches.n_texts)
    first = np.flatnonzero(np.concatenate([[True], ~matches.same])[: matches.texts.size])
    result[matches.texts[first]] = 1.0 / (1.0 + matches.positions[first])
    return result


def _query_values(ids: NDArray[np.int32], idf: NDArray[np.float64], numbers: NDArray[np.bool_]) -> list[float]:
    if not ids.size:
        return [0.0] * len(_QUERY)
    unknown = float((ids == UNKNOWN).mean())
    return [float(np.log1p(ids.size)), float(idf.mean()), float(idf.max()), unknown, float(numbers.mean())]
