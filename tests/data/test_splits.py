from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pertinent.config import parse_config
from pertinent.data.splits import (
    N_FOLDS,
    SplitConfig,
    cross_folds,
    fold_splits,
    normalise_query,
    normalised,
    query_id_of,
    query_ids,
    split_of,
    splits,
)
from pertinent.errors import ConfigError

FROZEN = {"rain shower": "test", "angle bracket": "train", "q 9": "dev", "deck over": "train"}


@pytest.mark.parametrize(
    "same", ["Rain Shower ", "rain shower", "RAIN\t shower", "rain\u3000shower", "ｒａｉｎ shower"]
)
def test_forms_of_one_query_stay_together(same: str) -> None:
    assert normalise_query(same) == "rain shower"
    assert query_id_of(same) == query_id_of("rain shower")
    assert split_of(same) == split_of("rain shower")


def test_the_query_id_and_the_split_are_those_of_the_stated_hash() -> None:
    digest = hashlib.sha256(b"rain shower").hexdigest()
    assert query_id_of("Rain Shower ") == digest[:16]
    h = int(digest[:16], 16) / 2**64
    assert split_of("Rain Shower ") == ("test" if h < 0.14 else "dev" if h < 0.21 else "train")


def test_a_fixed_query_of_each_split_never_moves() -> None:
    # Frozen values: every benchmark rests on them.
    assert {text: split_of(text) for text in FROZEN} == FROZEN


def test_shares_are_met_on_many_queries() -> None:
    found = [split_of(f"query number {k}") for k in range(20_000)]
    # Binomial standard errors are .0025 and .0018: 4 of each.
    assert found.count("test") / 20_000 == pytest.approx(0.14, abs=0.010)
    assert found.count("dev") / 20_000 == pytest.approx(0.07, abs=0.0075)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30), st.lists(st.text(min_size=1), max_size=10), st.randoms())
def test_splits_are_stable_under_reordering_and_growth(
    queries: list[str], more: list[str], chance: random.Random
) -> None:
    grown = [*queries, *more]
    chance.shuffle(grown)
    before = dict(zip(queries, splits(pl.Series(queries)), strict=True))
    after = dict(zip(grown, splits(pl.Series(grown)), strict=True))
    assert all(after[query] == split for query, split in before.items())


MARKED = st.text(
    st.sampled_from("aIJTi \u0130\u0390\u0399\u01f0\u0301\u0307\u0308\u030c\u0323\u0345\u3000"), max_size=6
)


@settings(deadline=None)
@given(st.text() | MARKED)
@example("J\u030c\u0323")  # case folding takes the letter apart, and its marks fall into another order
def test_normalising_twice_changes_no_split(text: str) -> None:
    once = normalise_query(text)
    assert normalise_query(once) == once
    assert query_id_of(once) == query_id_of(text)
    assert split_of(once) == split_of(text)
    assert once == once.strip()
    assert "  " not in once


def test_the_cases_of_a_letter_with_two_marks_are_one_query() -> None:
    # Capital and small iota with dialytika and tonos; there is no precomposed capital.
    assert normalise_query("\u03aa\u0301") == normalise_query("\u0390") == "\u0390"


def test_five_folds_are_of_one_size_and_hold_each_query_once() -> None:
    queries = pl.Series([f"query {k}" for k in range(150)])
    folds = [dict(zip(queries, fold_splits(queries, fold), strict=True)) for fold in range(N_FOLDS)]
    assert [Counter(found.values()) for found in folds] == [{"train": 100, "dev": 20, "test": 30}] * 5
    assert all([found[query] for found in folds].count("test") == 1 for query in queries)
    # Dev is no fold: the 20 of one fold are spread over the other four.
    assert len({tuple(found[q] == "test" for found in folds) for q in queries if folds[0][q] == "dev"}) == 4


@settings(deadline=None)
@given(st.lists(st.text(), max_size=30), st.integers(0, N_FOLDS - 1), st.randoms())
def test_folds_are_stable_under_reordering_repetition_and_spelling(
    queries: list[str], fold: int, chance: random.Random
) -> None:
    others = [*queries, *(query.lower() + " " for query in queries), ""]
    chance.shuffle(others)
    expected = {
        normalise_query(q): s
        for q, s in zip(queries, fold_splits(pl.Series(queries, dtype=pl.String), fold), strict=True)
    }
    found = zip(others, fold_splits(pl.Series(others), fold), strict=True)
    assert all(split == expected.get(normalise_query(query), "train") for query, split in found)


@given(st.lists(st.text(), max_size=20))
def test_the_vectorised_forms_agree_with_the_single_ones(queries: list[str]) -> None:
    column = pl.Series(queries, dtype=pl.String)
    assert normalised(column).to_list() == [normalise_query(query) for query in queries]
    assert query_ids(column).to_list() == [query_id_of(query) for query in queries]
    assert splits(column).to_list() == [split_of(query) for query in queries]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"test": 0.7, "dev": 0.3}, "data.split: test + dev must be under 1, got 0.7 + 0.3"),
        ({"dev": 0}, "data.split: dev: expected greater than 0, found 0"),
        ({"test": 0.0}, "data.split: test: expected greater than 0, found 0.0"),
    ],
)
def test_shares_that_leave_a_split_without_queries_are_refused(shares: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(SplitConfig, shares, "data.split")
    assert str(caught.value) == message


def test_cross_folds_are_even_and_do_not_follow_the_split() -> None:
    queries = pl.Series([f"query {i}" for i in range(5000)])
    folds = cross_folds(queries, 5)
    assert folds.dtype == pl.Int8
    shares = folds.value_counts()["count"]
    assert shares.len() == 5
    assert shares.min() > 900  # 1,000 expected, standard deviation 28
    in_test = folds.filter(splits(queries) == "test")
    assert in_test.n_unique() == 5


def test_cross_folds_see_the_normalised_query() -> None:
    assert cross_folds(pl.Series(["Rain Shower ", "rain  shower"]), 7).n_unique() == 1
