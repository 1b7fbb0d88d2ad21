"""Judgments: a stranger's grades as the canonical table, one row a (query, item).

The rule for several judgments of one (query, item):

- With a rater_id: one rating a (rater, query, item), the last row wins (``replaced_ratings``).
- Without: a row that repeats an earlier one, grade included, is dropped (``duplicate_judgments``); rows with different
  grades all count as ratings (``conflicting_pairs``).
- Then ``grade_mean`` is the mean of the ratings, ``grade`` the mean grade rounded to the nearest, an exact half to the
  lower grade, ``n_ratings`` their number, and ``grade_counts`` how many gave each grade, null where a rating of the pair
  is not of a named rater.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from pertinent.data import values
from pertinent.data.items import fill_language
from pertinent.data.sieve import Sieve
from pertinent.data.source import Source
from pertinent.data.splits import SPLITS, SplitBy, SplitConfig, normalised, query_ids, splits

JUDGMENTS_SCHEMA = pl.Schema(
    {
        "query_id": pl.String(),
        "query": pl.String(),
        "item_id": pl.String(),
        "grade": pl.Int16(),
        "grade_mean": pl.Float32(),
        "n_ratings": pl.Int32(),
        "grade_counts": pl.List(pl.Int32),
        "language": pl.String(),
        "split": pl.String(),
    }
)
UNKNOWN_ITEM = "item_id must name a known item"
_PAIR = ("query_id", "item_id")
_SPLIT_ALIASES = {"training": "train", "valid": "dev", "validation": "dev", "val": "dev", "testing": "test"}


def clean_judgments(
    source: Source, known_items: pl.Series, split: SplitConfig
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """The canonical judgments (JUDGMENTS_SCHEMA), the quarantine, and counts of what the rule above did."""
    sieve = Sieve(source.judgments)
    clean_pair(sieve)
    _clean_grades(sieve, source.grades)
    reject_unknown_items(sieve, known_items)
    _clean_ratings(sieve, len(source.grades))
    _clean_split(sieve)
    several_ids = _key_queries(sieve)
    frame = fill_language(sieve.frame, source.languages, always=True)
    frame, split_counts = _split(frame, split, source.split_by)
    ratings, counts = _drop_repeats(frame)
    judgments, conflicts = _aggregate(ratings, len(source.grades))
    counts |= {"conflicting_pairs": conflicts, "queries_with_several_ids": several_ids, **split_counts}
    return judgments, sieve.quarantined, counts


def clean_pair(sieve: Sieve) -> None:
    """Set aside rows without a query or an item."""
    sieve.frame = sieve.frame.with_columns([values.text(sieve.frame, name) for name in ("query", "item_id")])
    sieve.reject(pl.col("query").is_null(), "query must not be empty")
    sieve.reject(pl.col("item_id").is_null(), "item_id must not be empty")


def reject_unknown_items(sieve: Sieve, known_items: pl.Series) -> None:
    """Set aside rows whose item_id is not among the items."""
    unknown = ~pl.col("item_id").is_in(known_items.implode())
    sieve.reject(unknown, pl.format("{}, got {}", pl.lit(UNKNOWN_ITEM), pl.col("item_id")))


def grade_lookup(grades: tuple[Any, ...]) -> dict[str, int]:
    """The written forms of each grade value -> stored grade."""
    return {form: stored for stored, value in enumerate(grades) for form in values.written_forms(value)}


def _clean_grades(sieve: Sieve, grades: tuple[Any, ...]) -> None:
    lookup = grade_lookup(grades)
    truths = any(isinstance(value, bool) for value in grades)
    raw = sieve.frame.select(values.text(sieve.frame, "grade")).to_series()
    unique = raw.drop_nulls().unique().to_list()
    stored = [lookup.get(values.written(value.lower() if truths else value)) for value in unique]
    sieve.frame = sieve.frame.with_columns(
        raw.alias("_grade"), raw.replace_strict(unique, stored, default=None, return_dtype=pl.Int16).alias("grade")
    )
    allowed = ", ".join(str(value) for value in grades)
    found = pl.col("_grade").fill_null("nothing")
    sieve.reject(pl.col("grade").is_null(), pl.format("grade must be one of {}, got {}", pl.lit(allowed), found))


def _clean_ratings(sieve: Sieve, n_grades: int) -> None:
    """The optional columns that a mean rating comes in: grade_mean (stored scale) and n_ratings."""
    top = n_grades - 1
    _number_or(sieve, "grade_mean", pl.col("grade").cast(pl.Float64), f"a number from 0 to {top}", 0, top)
    _number_or(sieve, "n_ratings", pl.lit(1.0), "a whole number from 1", 1, 2**31 - 1)
    whole = pl.col("n_ratings") == pl.col("n_ratings").floor()
    sieve.reject(~whole, pl.format("n_ratings must be a whole number from 1, got {}", pl.col("n_ratings")))


def _number_or(sieve: Sieve, name: str, default: pl.Expr, due: str, low: float, high: float) -> None:
    if name not in sieve.frame.columns:
        sieve.frame = sieve.frame.with_columns(default.alias(name))
        return
    value, broken = values.number(sieve.frame, name)
    outside = broken | (value < low) | (value > high)
    sieve.reject(outside, pl.format("{} must be {}, got {}", pl.lit(name), pl.lit(due), pl.col(name).cast(pl.String)))
    value, _ = values.number(sieve.frame, name)
    sieve.frame = sieve.frame.with_columns(value.fill_null(default).alias(name))


def _clean_split(sieve: Sieve) -> None:
    """The data set's own split of a query, where it has one; null where the hash is to decide."""
    if "split" not in sieve.frame.columns:
        return
    own = (
        values.text(sieve.frame, "split")
        .str.to_lowercase()
        .replace(list(_SPLIT_ALIASES), list(_SPLIT_ALIASES.values()))
    )
    sieve.frame = sieve.frame.with_columns(own)
    found = pl.format("split must be one of train, dev, test, got {}", pl.col("split"))
    sieve.reject(~pl.col("split").is_in(list(SPLITS)), found)


def _key_queries(sieve: Sieve) -> int:
    """query_id: the user's own where given, else the hash; one id may not stand for two queries.

    A query under several ids of the user's has the first; returns the number of such queries.
    """
    frame = sieve.frame
    own = values.text(frame, "query_id") if "query_id" in frame.columns else pl.lit(None, pl.String)
    sieve.frame = frame.with_columns(
        normalised(frame["query"]).alias("_normalised"), own.alias("_own"), query_ids(frame["query"]).alias("_hash")
    ).with_columns(pl.coalesce("_own", "_hash").alias("query_id"))
    sieve.frame = sieve.frame.with_columns(pl.col("_normalised").first().over("query_id").alias("_first"))
    found = pl.format("query_id must stand for one query, got {} for {} and {}", "query_id", "_first", "_normalised")
    sieve.reject(pl.col("_normalised") != pl.col("_first"), found)
    several = _n_queries_with_several(sieve.frame.drop_nulls("_own"), "_own")
    first_own = pl.col("_own").drop_nulls().first().over("_normalised")
    sieve.frame = sieve.frame.with_columns(
        pl.coalesce(first_own, "_hash").alias("query_id"), pl.col("query").first().over("_normalised")
    )
    return several


def _split(frame: pl.DataFrame, config: SplitConfig, by: SplitBy) -> tuple[pl.DataFrame, dict[str, int]]:
    """Add ``split``: the data set's own where given, else by hash.

    A query that the data set puts in several splits goes whole into the one held out most: test, then dev. Where its own
    split has no dev, the training queries whose hash falls there are dev. Returns the frame and counts of both.
    """
    by_hash = splits(frame["query"], config, by)
    if "split" not in frame.columns:
        return frame.with_columns(by_hash.alias("split")), {"queries_with_several_splits": 0, "dev_from_train": 0}
    rank = pl.coalesce("split", pl.lit(by_hash)).replace_strict(list(SPLITS), [0, 1, 2], return_dtype=pl.Int8)
    frame = frame.with_columns(rank.alias("_rank"))
    counts = {"queries_with_several_splits": _n_queries_with_several(frame, "_rank"), "dev_from_train": 0}
    held_out_most = pl.col("_rank").max().over("_normalised")
    split = held_out_most.replace_strict([0, 1, 2], list(SPLITS), return_dtype=pl.String)
    frame = frame.with_columns(split.alias("split"))
    if frame.filter(pl.col("split") == "dev").is_empty():
        moved = (pl.col("split") == "train") & pl.lit(by_hash == "dev")
        counts["dev_from_train"] = frame.filter(moved)["_normalised"].n_unique()
        frame = frame.with_columns(pl.when(moved).then(pl.lit("dev")).otherwise("split").alias("split"))
    return frame, counts


def _n_queries_with_several(frame: pl.DataFrame, column: str) -> int:
    n = frame.group_by("_normalised").agg(pl.col(column).n_unique().alias("n"))
    return n.filter(pl.col("n") > 1).height


def _drop_repeats(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    rater = values.text(frame, "rater_id") if "rater_id" in frame.columns else pl.lit(None, pl.String)
    frame = frame.with_columns(rater.alias("rater_id"))
    rated = frame.filter(pl.col("rater_id").is_not_null())
    unrated = frame.filter(pl.col("rater_id").is_null())
    last = rated.unique([*_PAIR, "rater_id"], keep="last", maintain_order=True)
    distinct = unrated.unique([*_PAIR, "grade", "grade_mean"], keep="first", maintain_order=True)
    counts = {
        "duplicate_judgments": unrated.height - distinct.height,
        "replaced_ratings": rated.height - last.height,
    }
    return pl.concat([last, distinct]).sort("_row"), counts


def _aggregate(ratings: pl.DataFrame, n_grades: int) -> tuple[pl.DataFrame, int]:
    """One row a (query, item), and the number of pairs whose unsigned rows disagree."""
    n = pl.col("n_ratings")
    mean_grade = (pl.col("grade") * n).sum() / n.sum()
    unsigned = pl.col("rater_id").is_null()
    pairs = ratings.group_by(_PAIR, maintain_order=True).agg(
        pl.col("query").first(),
        # ceil(x - 1/2) rounds to the nearest and an exact half down; a single row keeps the grade it came with.
        pl.when(pl.len() == 1).then(pl.col("grade").first()).otherwise((mean_grade - 0.5).ceil()).alias("grade"),
        ((pl.col("grade_mean") * n).sum() / n.sum()).alias("grade_mean"),
        n.sum(),
        pl.when(~unsigned.any())
        .then(pl.concat_list([(pl.col("grade") == grade).sum() for grade in range(n_grades)]))
        .alias("grade_counts"),
        pl.col("language").drop_nulls().first(),
        pl.col("split").first(),
        (pl.col("grade_mean").filter(unsigned).n_unique() > 1).alias("_conflict"),
    )
    conflicts = int(pairs["_conflict"].sum())
    ordered = pairs.select(JUDGMENTS_SCHEMA.names()).cast(JUDGMENTS_SCHEMA)
    return ordered.sort(_PAIR), conflicts
