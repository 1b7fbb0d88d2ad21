from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pertinent.data.build import Dataset, load_dataset
from pertinent.features.terms import terms_of
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.sample import sample_pairs

N_JUDGED = 18  # 6 training queries (q00 q01 q03 q05 q06 q08) of 3 items
N_LOG = 36  # 12 training queries of 4 items, less 2 judged ones for each of the 6 judged queries


@pytest.fixture
def dataset(stages: dict[str, Path]) -> Dataset:
    return load_dataset(stages["data"])


@pytest.fixture
def texts(stages: dict[str, Path]) -> pl.DataFrame:
    return pl.read_parquet(stages["text"] / "items.parquet")


def config(**settings: object) -> LabelsConfig:
    return LabelsConfig.model_validate({"pool_per_query": 4, "pool_depth": 8, "random_per_query": 2, **settings})


def counts(pairs: pl.DataFrame, column: str = "source") -> dict[str | None, int]:
    return dict(pairs[column].value_counts().iter_rows())


@pytest.mark.parametrize("seed", range(5))
def test_no_pair_is_of_a_held_out_query_or_there_twice(dataset: Dataset, texts: pl.DataFrame, seed: int) -> None:
    pairs = sample_pairs(dataset, texts, config(), seed)
    held_out = dataset.judgments.filter(pl.col("split") != "train")["query"].unique()
    assert not set(held_out) & set(pairs["query"])
    logged = dataset.log.filter(pl.col("split") != "train").select("query").collect()["query"]  # type: ignore[union-attr]
    assert not set(logged) & set(pairs["query"])
    assert pairs.select("query", "item_id").is_unique().all()


def test_each_source_gives_what_it_has(dataset: Dataset, texts: pl.DataFrame) -> None:
    pairs = sample_pairs(dataset, texts, config(), seed=0)
    found = counts(pairs)
    assert found["judged"] == N_JUDGED
    assert found["log"] == N_LOG
    judged = dataset.judgments.select("query", "item_id")
    others = pairs.filter(pl.col("source") != "judged")
    assert others.join(judged, on=["query", "item_id"], how="semi").height == 0
    assert set(others.filter(pl.col("source") != "log")["query"]) <= set(
        pairs.filter(pl.col("source") == "judged")["query"]
    )


def test_pool_pairs_are_among_the_best_by_shared_terms(dataset: Dataset, texts: pl.DataFrame) -> None:
    # A query of a colour and a thing shares a term with 8 items: 4 of the colour and 3 more of the thing, itself once.
    pairs = sample_pairs(dataset, texts, config(log_pairs=0, random_per_query=0, pool_per_query=8), seed=0)
    assert counts(pairs)["bm25"] > 0
    titles = dict(texts.select("item_id", "text").iter_rows())
    for query, item in pairs.filter(pl.col("source") == "bm25").select("query", "item_id").iter_rows():
        assert set(terms_of(query)) & set(terms_of(titles[item]))


def test_log_pairs_are_even_over_languages(dataset: Dataset, texts: pl.DataFrame) -> None:
    # 36 in all: q18 (no language) has 4, q15 and q16 (de) 8, en the rest. 12 are 4 of each.
    pairs = sample_pairs(
        dataset, texts, config(judged_pairs=False, pool_per_query=0, random_per_query=0, log_pairs=12), 0
    )
    assert counts(pairs, "language") == {"en": 4, "de": 4, None: 4}
    pairs = sample_pairs(
        dataset, texts, config(judged_pairs=False, pool_per_query=0, random_per_query=0, log_pairs=18), 0
    )
    assert counts(pairs, "language") == {"en": 7, "de": 7, None: 4}


def test_the_same_seed_gives_the_same_pairs_in_the_same_order(dataset: Dataset, texts: pl.DataFrame) -> None:
    few = config(log_pairs=10, pool_per_query=2, random_per_query=1)
    assert sample_pairs(dataset, texts, few, 7).equals(sample_pairs(dataset, texts, few, 7))
    assert not sample_pairs(dataset, texts, few, 7).equals(sample_pairs(dataset, texts, few, 8))


def test_the_order_of_the_log_does_not_matter(dataset: Dataset, texts: pl.DataFrame) -> None:
    few = config(log_pairs=10)
    shuffled = dataset.log.collect().sample(fraction=1.0, shuffle=True, seed=1).lazy()  # type: ignore[union-attr]
    other = Dataset(**{**vars(dataset), "log": shuffled})
    assert sample_pairs(other, texts, few, 7).equals(sample_pairs(dataset, texts, few, 7))


def test_the_spelling_and_the_own_ids_of_a_log_give_no_pair_twice(dataset: Dataset, texts: pl.DataFrame) -> None:
    # Every search has an id of its own, and every second row is in capitals: still 36 pairs, none of them judged.
    log = dataset.log.collect().with_row_index("row")  # type: ignore[union-attr]
    log = log.with_columns(
        query=pl.when(pl.col("row") % 2 == 0).then(pl.col("query").str.to_uppercase() + " ").otherwise("query"),
        query_id=pl.format("search-{}", "row"),
    )
    odd = Dataset(**{**vars(dataset), "log": log.drop("row").lazy()})
    pairs = sample_pairs(odd, texts, config(), 0)
    assert counts(pairs)["log"] == N_LOG
    assert pairs.select(pl.col("query").str.to_lowercase().str.strip_chars(), "item_id").is_unique().all()
    few = sample_pairs(odd, texts, config(log_pairs=20, judged_pairs=False, pool_per_query=0, random_per_query=0), 0)
    assert few.height == 20


def test_a_limit_drops_random_then_bm25_then_log_pairs(dataset: Dataset, texts: pl.DataFrame) -> None:
    whole = sample_pairs(dataset, texts, config(), 0)
    order = ["judged", "log", "bm25", "random"]
    assert whole["source"].unique(maintain_order=True).to_list() == order
    for limit in (1, N_JUDGED, N_JUDGED + 5, whole.height - 1, whole.height + 1):
        assert sample_pairs(dataset, texts, config(max_pairs=limit), 0).equals(whole.head(limit))


def test_judged_pairs_left_out_are_given_by_no_other_source(dataset: Dataset, texts: pl.DataFrame) -> None:
    pairs = sample_pairs(dataset, texts, config(judged_pairs=False), 0)
    whole = sample_pairs(dataset, texts, config(), 0)
    assert pairs.equals(whole.filter(pl.col("source") != "judged"))


def test_a_data_set_without_a_log_gives_the_other_sources(dataset: Dataset, texts: pl.DataFrame) -> None:
    pairs = sample_pairs(Dataset(**{**vars(dataset), "log": None}), texts, config(), 0)
    assert set(pairs["source"]) == {"judged", "bm25", "random"}


def test_queries_and_items_without_terms_do_no_harm(dataset: Dataset, texts: pl.DataFrame) -> None:
    odd = dataset.judgments.with_columns(
        query=pl.when(pl.col("query_id") == "q00").then(pl.lit("!?")).otherwise("query")
    )
    blank = texts.with_columns(text=pl.when(pl.col("item_id") < "i05").then(pl.lit("")).otherwise("text"))
    pairs = sample_pairs(Dataset(**{**vars(dataset), "judgments": odd}), blank, config(), 0)
    assert pairs.filter(pl.col("query") == "!?").height >= 3


def test_a_pool_deeper_than_the_catalogue_takes_all_items_that_share_a_word(
    dataset: Dataset, texts: pl.DataFrame
) -> None:
    pairs = sample_pairs(dataset, texts, config(log_pairs=0, pool_per_query=50, pool_depth=50, random_per_query=0), 0)
    words = {item: set(terms_of(text)) for item, text in texts.select("item_id", "text").iter_rows()}
    judged = dataset.judgments.filter(pl.col("split") == "train").group_by("query").agg("item_id")
    for query, judged_items in judged.iter_rows():
        sharing = {item for item, found in words.items() if found & set(terms_of(query))}
        assert set(pairs.filter(pl.col("query") == query)["item_id"]) == sharing | set(judged_items)
