"""Configuration of the labelling stage."""

from __future__ import annotations

from pydantic import Field

from pertinent.config import Config


class LabelsConfig(Config):
    """Which pairs the teacher labels for the student. Held-out queries never take part."""

    judged_pairs: bool = Field(default=True, description="also label the human-judged pairs of training queries")
    log_pairs: int = Field(default=30_000, ge=0, description="unjudged pairs drawn from the log, evenly over languages")
    pool_per_query: int = Field(
        default=10, ge=0, description="unjudged items a judged training query, drawn from its best items by BM25"
    )
    pool_depth: int = Field(default=50, ge=1, description="BM25 ranks that the pool is drawn from")
    random_per_query: int = Field(
        default=1, ge=0, description="unjudged items a judged training query, drawn at random"
    )
    max_pairs: int = Field(default=200_000, ge=1, description="pairs in all; pool pairs are dropped first, whole ranks")
    unit_pairs: int = Field(default=4096, ge=1, description="pairs a shard: the most that a kill can cost")
