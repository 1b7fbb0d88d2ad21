"""The search log: a stranger's impressions and actions as the canonical table."""

from __future__ import annotations

import polars as pl

from pertinent.data import values
from pertinent.data.items import fill_language
from pertinent.data.judgments import clean_pair, reject_unknown_items
from pertinent.data.sieve import Sieve
from pertinent.data.source import Source, Table
from pertinent.data.splits import SplitBy, SplitConfig, normalised, query_ids, splits

ACTIONS = ("impression", "click", "long_click", "save", "hide")
LOG_SCHEMA = pl.Schema(
    [
        ("timestamp", pl.Datetime("us", "UTC")),
        ("query", pl.String),
        ("query_id", pl.String),
        ("search_id", pl.String),
        ("item_id", pl.String),
        ("position", pl.Int32),
        ("action", pl.String),
        ("user", pl.String),
        ("session", pl.String),
        ("dwell_s", pl.Float64),
        ("language", pl.String),
        ("country", pl.String),
        ("split", pl.String),
    ]
)


def clean_log(
    table: Table, source: Source, known_items: pl.Series, judgments: pl.DataFrame, split: SplitConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The canonical log (LOG_SCHEMA, in the order of the file) and the quarantine.

    query_id stands for the query's text: that of its judgments where it is judged, so that a data set's own ids and split
    hold here too, else its hash. search_id is the log's own id, often one of a single search (as UBI's query_id is).
    """
    sieve = Sieve(table)
    clean_pair(sieve)
    _clean_action(sieve)
    _clean_timestamp(sieve)
    _clean_position(sieve)
    _clean_dwell(sieve)
    reject_unknown_items(sieve, known_items)
    frame = fill_language(sieve.frame, source.languages, always=True)
    texts = [name for name in ("user", "session", "country") if name in frame.columns]
    frame = frame.with_columns([values.text(frame, name) for name in texts])
    frame = _key_queries(frame, judgments, split, source.split_by)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in LOG_SCHEMA.items() if name not in frame.columns]
    return frame.with_columns(missing).select(LOG_SCHEMA.names()).cast(LOG_SCHEMA), sieve.quarantined


def _clean_action(sieve: Sieve) -> None:
    action = values.text(sieve.frame, "action").str.to_lowercase().str.replace_all(r"[\s-]+", "_")
    sieve.frame = sieve.frame.with_columns(action)
    known = pl.col("action").is_in(list(ACTIONS)).fill_null(False)
    found = pl.col("action").fill_null("nothing")
    sieve.reject(~known, pl.format("action must be one of {}, got {}", pl.lit(", ".join(ACTIONS)), found))


def _clean_timestamp(sieve: Sieve) -> None:
    if "timestamp" not in sieve.frame.columns:
        return
    value, broken = values.timestamps(sieve.frame, "timestamp")
    found = pl.col("timestamp").cast(pl.String)
    sieve.reject(broken, pl.format("timestamp must be ISO 8601 or seconds since 1970, got {}", found))
    value, _ = values.timestamps(sieve.frame, "timestamp")
    sieve.frame = sieve.frame.with_columns(value)


def _clean_position(sieve: Sieve) -> None:
    if "position" not in sieve.frame.columns:
        return
    value, broken = values.number(sieve.frame, "position")
    wrong = broken | (value < 0) | (value >= 2**31) | (value != value.floor())
    sieve.reject(wrong, pl.format("position must be a whole number from 0, got {}", pl.col("position").cast(pl.String)))
    value, _ = values.number(sieve.frame, "position")
    sieve.frame = sieve.frame.with_columns(value)


def _clean_dwell(sieve: Sieve) -> None:
    if "dwell_s" not in sieve.frame.columns:
        return
    value, broken = values.number(sieve.frame, "dwell_s")
    found = pl.col("dwell_s").cast(pl.String)
    sieve.reject(broken | (value < 0), pl.format("dwell_s must be seconds from 0, got {}", found))
    value, _ = values.number(sieve.frame, "dwell_s")
    sieve.frame = sieve.frame.with_columns(value)


def _key_queries(frame: pl.DataFrame, judgments: pl.DataFrame, split: SplitConfig, by: SplitBy) -> pl.DataFrame:
    judged = judgments.select("query", pl.col("query_id").alias("_judged_id"), pl.col("split").alias("_judged_split"))
    judged = judged.unique("query", keep="first", maintain_order=True)
    judged = judged.with_columns(normalised(judged["query"]).alias("_normalised")).drop("query")
    judged = judged.unique("_normalised", keep="first", maintain_order=True)
    frame = frame.with_columns(
        normalised(frame["query"]).alias("_normalised"),
        query_ids(frame["query"]).alias("_hash_id"),
        splits(frame["query"], split, by).alias("split"),
    ).join(judged, on="_normalised", how="left", maintain_order="left")
    own = [values.text(frame, name) for name in ("search_id", "query_id") if name in frame.columns]
    return frame.with_columns(
        pl.coalesce(*own, pl.lit(None, pl.String)).alias("search_id"),
        pl.coalesce("_judged_id", "_hash_id").alias("query_id"),
        pl.coalesce("_judged_split", "split").alias("split"),
    )
