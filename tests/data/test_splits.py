from __future__ import annotations

import hashlib
import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.config import parse_config
from pertinent.data.splits import (
    SplitConfig,
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


@given(st.text())
def test_normalising_twice_changes_no_split(text: str) -> None:
    once = normalise_query(text)
    assert once == once.strip()
    assert "  " not in once


@given(st.lists(st.text(), max_size=20))
def test_the_vectorised_forms_agree_with_the_single_ones(queries: list[str]) -> None:
    column = pl.Series(queries, dtype=pl.String)
    assert normalised(column).to_list() == [normalise_query(query) for query in queries]
    assert query_ids(column).to_list() == [query_id_of(query) for query in queries]
    assert splits(column).to_list() == [split_of(query) for query in queries]


def test_shares_that_leave_no_training_data_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data.split: test \+ dev must be under 1, got 0.7 \+ 0.3$"):
        parse_config(SplitConfig, {"test": 0.7, "dev": 0.3}, "data.split")
