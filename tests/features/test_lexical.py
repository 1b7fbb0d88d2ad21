from __future__ import annotations

import math

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.features.corpus import FIELDS, CorpusStatistics, LexicalItems
from pertinent.features.lexical import FEATURE_NAMES, K1, bm25_scores, feature_specs, lexical_features
from pertinent.features.terms import MAX_QUERY_TERMS, terms_of

TITLES = ["Red velvet sofa", "Oak table 24 in", "Velvet red armchair, red", ""]
BODIES = ["A sofa in red velvet", "Rustic oak", "", "Wool rug"]


def corpus(titles: list[str], bodies: list[str]) -> tuple[LexicalItems, CorpusStatistics]:
    texts = {"title": titles, "body": bodies}
    statistics = CorpusStatistics.of({field: [terms_of(text) for text in texts[field]] for field in FIELDS})
    return LexicalItems.of(texts, statistics), statistics


ITEMS, STATISTICS = corpus(TITLES, BODIES)


def features(query: str, row: int) -> dict[str, float]:
    found = lexical_features(query, ITEMS, STATISTICS)
    assert found.shape == (len(TITLES), len(FEATURE_NAMES))
    assert found.dtype == np.float32
    return dict(zip(FEATURE_NAMES, found[row].tolist(), strict=True))


def idf(n_with: int) -> float:
    """Lucene's idf of a term that n_with of the 4 items have."""
    return math.log(1 + (4 - n_with + 0.5) / (n_with + 0.5))


def approx(expected: dict[str, float]) -> object:
    return pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_statistics_are_counted_by_hand() -> None:
    assert STATISTICS.n_items == 4
    # Terms: title 3, 4, 4, 0; body 5, 2, 0, 2.
    assert STATISTICS.mean_length == {"title": 11 / 4, "body": 9 / 4}
    assert STATISTICS.idf["title"][STATISTICS.terms["red"]] == pytest.approx(idf(2))
    assert STATISTICS.idf["body"][STATISTICS.terms["red"]] == pytest.approx(idf(1))
    assert STATISTICS.idf["title"][STATISTICS.terms["rug"]] == pytest.approx(idf(0))
    assert STATISTICS.ids(["zzz"]) == [-1]


def test_every_feature_of_one_pair_is_worked_by_hand() -> None:
    # "red velvet 24" against item 2: title "velvet red armchair red", empty body.
    found = features("red velvet 24", 2)
    norm = K1 * (0.25 + 0.75 * 4 / 2.75)
    title_idf = [idf(2), idf(2), idf(1)]  # red, velvet, 24
    body_idf = [idf(1), idf(1), idf(0)]
    # Trigrams of the query: ^re red ed$, ^ve vel elv lve vet et$, ^24 24$: 11. Of the title: the 9 of red and velvet,
    # and ^ar arm rmc mch cha hai air ir$: 17. Shared: 9; in either: 11 + 17 - 9 = 19.
    assert found == approx(
        {
            "title.bm25": idf(2) * 2 * 2.2 / (2 + norm) + idf(2) * 2.2 / (1 + norm),
            "title.matched": 2 / 3,
            "title.matched_idf": 2 * idf(2) / sum(title_idf),
            "title.matched_max_idf": 0.0,  # "24" is the rarest and is not there
            "title.ordered": 0.0,  # "velvet red" is the wrong way round
            "title.phrase": 0.0,
            "title.position": 1.0,  # "velvet" comes first
            "title.trigram_query": 9 / 11,
            "title.trigram_jaccard": 9 / 19,
            "title.proximity": 1.0,
            "title.numbers": 0.0,
            "title.measures": 1.0,  # no unit in the query
            "title.other_measure": 0.0,
            "body.proximity": 0.0,
            "body.measures": 1.0,
            "body.other_measure": 0.0,
            "title.log_length": math.log(5),
            **{f"body.{name}": 0.0 for name in ("bm25", "matched", "matched_idf", "matched_max_idf", "ordered")},
            **{f"body.{name}": 0.0 for name in ("phrase", "position", "trigram_query", "trigram_jaccard", "numbers")},
            "body.log_length": 0.0,
            "matched_anywhere": 2 / 3,
            # The larger idf of the two fields: here the body's.
            "matched_idf_anywhere": 2 * idf(1) / sum(body_idf),
            "trigram_anywhere": 9 / 11,
            "query_log_terms": math.log(4),
            "query_mean_idf": sum(body_idf) / 3,
            "query_max_idf": idf(0),
            "query_unknown": 0.0,
            "query_numbers": 1 / 3,
        }
    )


@pytest.mark.parametrize(
    ("query", "row", "expected"),
    [
        # "red velvet" is a phrase of both fields of item 0, third from the start of its body... 1 / (1 + 3).
        (
            "red velvet",
            0,
            {"title.ordered": 1, "title.phrase": 1, "body.phrase": 1, "title.position": 1, "body.position": 1 / 4},
        ),
        ("velvet sofa red", 0, {"title.ordered": 1 / 2, "title.phrase": 0, "title.matched": 1, "body.ordered": 0}),
        # A single term that is there is in order and a phrase.
        ("sofas", 0, {"title.ordered": 1, "title.phrase": 1, "title.position": 1 / 3, "title.matched_max_idf": 1}),
        ("sofas", 1, {"title.ordered": 0, "title.phrase": 0, "title.position": 0, "title.matched_max_idf": 0}),
        # The last word of one item and the first of the next are no phrase.
        ("sofa oak", 1, {"title.ordered": 0, "title.phrase": 0, "title.matched": 1 / 2}),
        ("table 24in", 1, {"title.numbers": 1, "title.phrase": 1, "body.numbers": 0, "query_numbers": 1 / 3}),
        ("oak table", 1, {"title.numbers": 1, "body.numbers": 1, "matched_anywhere": 1, "body.matched": 1 / 2}),
        ("rustic table", 1, {"matched_anywhere": 1, "title.matched": 1 / 2, "body.matched": 1 / 2}),
        # An unknown term counts as the rarest of all: idf(0).
        (
            "zzz oak",
            1,
            {"query_unknown": 1 / 2, "title.matched": 1 / 2, "title.matched_idf": idf(1) / (idf(0) + idf(1))},
        ),
        # Misspelt: ^so ofa fa$ of "soffa" (^so sof off ffa fa$) are 3 of 5: ^so, sof, fa$.
        ("soffa", 0, {"title.trigram_query": 3 / 5, "title.matched": 0, "trigram_anywhere": 3 / 5}),
        # Asked for twice, found once each time.
        ("oak oak", 1, {"title.matched": 1, "title.ordered": 0, "query_log_terms": math.log(3)}),
    ],
)
def test_single_features_match_the_hand_worked_values(query: str, row: int, expected: dict[str, float]) -> None:
    found = features(query, row)
    assert {name: found[name] for name in expected} == approx(expected)


def test_an_empty_query_gives_zero_but_in_lengths_and_numbers() -> None:
    for row in range(len(TITLES)):
        found = features(" ! ", row)
        ones = ("title.numbers", "body.numbers", "title.measures", "body.measures")
        assert {found[name] for name in ones} == {1.0}
        assert found["title.log_length"] == pytest.approx(math.log1p(len(terms_of(TITLES[row]))))
        rest = [value for name, value in found.items() if "log_length" not in name and name not in ones]
        assert not any(rest)


@pytest.mark.parametrize(
    ("query", "title", "expected"),
    [
        ("rope 24 inch", "rope 24 in", (1, 0)),
        ('rope 24"', "24-inch rope", (1, 0)),
        ("rope 24 in", "rope 30 inches", (0, 1)),
        ("rope 24 in", "24 rope", (0, 0)),
        ("24 in 6 ft", 'board 24" x 8 feet', (0.5, 0.5)),
        ("rope in 24", "rope 30 in", (1, 0)),  # no measure: "in" before a number is a word
        ("24 in", "24 | in", (1, 0)),  # what stands between terms is not read
    ],
)
def test_measures_agree_by_number_and_unit(query: str, title: str, expected: tuple[float, float]) -> None:
    # The second item ends where the third begins: a unit there is behind no number of its own.
    items, statistics = corpus(["5", title, "in"], ["", "", ""])
    found = lexical_features(query, items, statistics)[1]
    columns = [FEATURE_NAMES.index(f"title.{name}") for name in ("measures", "other_measure")]
    assert tuple(found[columns].tolist()) == expected


@pytest.mark.parametrize(
    ("query", "title", "expected"),
    [
        ("red sofa", "sofa in red", 1 / 2),
        ("red sofa", "red red red sofa", 1),
        ("red sofa", "red one two three sofa", 1 / 4),
        ("red red", "red red", 0),  # one term, twice
        ("sofa", "sofa", 0),
        ("red oak sofa", "red one oak one two sofa", 1 / 2),
    ],
)
def test_proximity_is_one_over_the_least_distance_of_two_terms(query: str, title: str, expected: float) -> None:
    items, statistics = corpus(["sofa", title, "red"], ["", "", ""])  # neighbours in other items do not count
    found = lexical_features(query, items, statistics)[:, FEATURE_NAMES.index("title.proximity")]
    assert found == pytest.approx([0, expected, 0])


def test_kinds_and_names_tell_what_a_feature_depends_on() -> None:
    kinds = {spec.name: spec.kind for spec in feature_specs()}
    assert tuple(kinds) == FEATURE_NAMES
    one, other = lexical_features("red sofa", ITEMS, STATISTICS), lexical_features("oak 24", ITEMS, STATISTICS)
    for column, (name, kind) in enumerate(kinds.items()):
        if kind == "query":
            assert len(set(one[:, column])) == 1, name
        if kind == "item":
            assert (one[:, column] == other[:, column]).all(), name


WORDS = [f"w{i:02d}x" for i in range(30)]
DOCUMENTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12), min_size=2, max_size=15)


@given(DOCUMENTS.filter(any), st.lists(st.sampled_from(WORDS), min_size=1, max_size=5, unique=True))
def test_bm25_equals_bm25s(documents: list[list[str]], query: list[str]) -> None:
    # bm25s leaves out Lucene's constant factor k1 + 1, as Lucene 8 does; it changes no order. Words are of letters
    # that terms_of parts, so that what is indexed is what terms_of gives.
    texts = [" ".join(words) for words in documents]
    items, statistics = corpus(texts, texts)
    terms = [terms_of(text) for text in texts]
    oracle = bm25s.BM25(method="lucene", k1=K1, b=0.75, dtype="float64")
    oracle.index(terms, show_progress=False)
    wanted = [term for term in terms_of(" ".join(query)) if term in statistics.terms]
    expected = oracle.get_scores(wanted) if wanted else np.zeros(len(texts))
    found = bm25_scores(" ".join(query), items, statistics, "title")
    assert found == pytest.approx(expected * (K1 + 1), rel=1e-9, abs=1e-12)
    column = lexical_features(" ".join(query), items, statistics)[:, FEATURE_NAMES.index("title.bm25")]
    assert column == pytest.approx(found, rel=1e-6)


TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(["red", "sofa", "24", "in", "椅子", "3.5ft"]), max_size=6).map(
    " ".join
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), TEXTS)
def test_any_texts_give_finite_features_that_no_other_item_changes(texts: list[tuple[str, str]], query: str) -> None:
    items, statistics = corpus([title for title, _ in texts], [body for _, body in texts])
    together = lexical_features(query, items, statistics)
    assert np.isfinite(together).all()
    shares = [
        i for i, name in enumerate(FEATURE_NAMES) if "bm25" not in name and "log" not in name and "_idf" not in name[5:]
    ]
    assert (together[:, shares] >= 0).all()
    for row in range(len(texts)):
        alone = lexical_features(query, items.take(np.array([row])), statistics)
        assert (alone[0] == together[row]).all()  # to the last bit


@pytest.mark.parametrize("query", ["x" * 10_000, "red " * 2_500, "红" * 10_000, "1" * 10_000, "\u0301" * 10_000])
def test_a_hostile_query_is_cut_and_stays_finite(query: str) -> None:
    found = lexical_features(query, ITEMS, STATISTICS)
    assert np.isfinite(found).all()
    assert found[0, FEATURE_NAMES.index("query_log_terms")] <= np.float32(math.log1p(MAX_QUERY_TERMS))


def test_a_corpus_without_a_single_term_still_gives_features() -> None:
    items, statistics = corpus(["!", "?"], ["", "-"])
    found = lexical_features("red sofa", items, statistics)
    assert np.isfinite(found).all()
    assert found[:, FEATURE_NAMES.index("query_unknown")].tolist() == [1.0, 1.0]


def test_a_term_outside_the_statistics_keeps_its_place() -> None:
    items = LexicalItems.of({"title": ["unheard-of red sofa"], "body": [""]}, STATISTICS)
    found = dict(zip(FEATURE_NAMES, lexical_features("red sofa", items, STATISTICS)[0].tolist(), strict=True))
    assert found["title.position"] == pytest.approx(1 / 3)
    assert found["title.log_length"] == pytest.approx(math.log(5))
    assert found["title.phrase"] == 1.0
