from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.features.corpus import FIELDS, CorpusStatistics, GramIndex, LexicalItems
from pertinent.features.lexical import FEATURE_NAMES, lexical_features
from pertinent.features.terms import query_terms, terms_of, trigrams_of

TEXTS = st.text(max_size=30) | st.lists(st.sampled_from(["red", "sofas", "24", "in", "椅子", "ส้ม", "كرسي"]), max_size=6).map(
    " ".join
)  # fmt: skip


def statistics_of(texts: list[str]) -> CorpusStatistics:
    return CorpusStatistics.of({field: [terms_of(text) for text in texts] for field in FIELDS})


def test_the_holders_of_a_trigram_are_the_terms_that_have_it() -> None:
    terms = ["oak", "oaks", "soak", "24"]
    grams = trigrams_of(["oak"])  # ^oa oak ak$
    places, holders = GramIndex.of(terms).holders(grams)
    by_gram = {gram: [terms[i] for i in holders[grams[places] == trigram(gram)]] for gram in ("^oa", "oak", "ak$")}
    assert by_gram == {"^oa": ["oak", "oaks"], "oak": ["oak", "oaks", "soak"], "ak$": ["oak", "soak"]}


def trigram(gram: str) -> int:
    import zlib

    return zlib.crc32(gram.encode()) & 0x7FFFFFFF


def test_masks_are_zero_again_when_they_are_lent_the_next_time() -> None:
    statistics = statistics_of(["oak table", "oaken stool"])
    with statistics.gram_masks(trigrams_of(["oak"])) as first:
        assert np.bitwise_count(first).tolist() == [3, 2, 0, 0, 0]  # oak, oaken, stool, table, UNKNOWN
    with statistics.gram_masks(trigrams_of(["zzz"])) as second:
        assert second is first
        assert not second.any()


def test_two_queries_at_once_get_masks_of_their_own() -> None:
    statistics = statistics_of(["oak table"])
    with statistics.gram_masks(trigrams_of(["oak"])) as one, statistics.gram_masks(trigrams_of(["table"])) as other:
        assert np.bitwise_count(one).tolist() == [3, 0, 0]
        assert np.bitwise_count(other).tolist() == [0, 5, 0]


@given(st.lists(TEXTS, min_size=1, max_size=5), st.lists(TEXTS, min_size=1, max_size=4), st.text(max_size=90))
def test_shared_trigrams_are_those_of_the_sets(known: list[str], items: list[str], query: str) -> None:
    """Items whose terms the corpus may lack, queries of more than 64 trigrams: always the intersection of two sets."""
    statistics = statistics_of(known)
    stored = LexicalItems.of({"title": items, "body": [""] * len(items)}, statistics)
    found = lexical_features(query, stored, statistics)
    grams = set(trigrams_of(query_terms(query)).tolist())
    for row, text in enumerate(items):
        own = set(trigrams_of(terms_of(text)).tolist())
        both, either = len(grams & own), len(grams | own)
        told = dict(zip(FEATURE_NAMES, found[row].tolist(), strict=True))
        assert told["title.trigram_query"] == pytest.approx(both / max(len(grams), 1))
        assert told["title.trigram_jaccard"] == pytest.approx(both / max(either, 1))
