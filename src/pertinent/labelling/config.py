"""Configuration of the labelling stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pertinent.config import Config
from pertinent.judge.config import JudgeConfig

LOG_COLUMNS = ("query", "item_id", "position", "language")
BANDS = ("popularity", "position")  # strata that are bands of a number; any other is a column of the log or the items
SOURCES = ("impressions", "bm25", "embedding", "random")
BalanceBy = Literal["grade", "language"]
EngineName = Literal["local", "ray"]
Allocation = Literal["proportional", "sqrt", "fixed"]


class RayConfig(Config):
    """The workers of the engine ray, each a process with a teacher of its own."""

    address: str | None = Field(
        default=None,
        description="of an existing cluster: auto, HOST:PORT or ray://HOST:PORT; none: one is started here",
    )
    workers: int | None = Field(default=None, ge=1, description="default: as many as the cluster has room for")
    cpus: float = Field(default=1.0, gt=0.0, description="cores of a worker; it runs as many threads")
    gpus: float = Field(default=0.0, ge=0.0, description="GPUs of a worker, or a part of one")


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
    pairs: Path | None = Field(
        default=None, description="pairs.parquet of `pertinent label sample`, labelled in place of a draw of this stage"
    )
    cache: tuple[Path, ...] = Field(
        default=(),
        description="earlier folders of labels: what the same teacher said of the same text is taken from them",
    )
    judge: JudgeConfig | None = Field(
        default=None, description="an LLM behind a chat endpoint, which labels in place of the trained teacher"
    )
    max_failed: float = Field(
        default=0.001, ge=0.0, le=1.0, description="share of the pairs that may fail, each set aside with its reason"
    )
    min_confidence: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="labels whose likeliest grade has less get weight 0; none: every label counts",
    )
    balance: tuple[BalanceBy, ...] = Field(
        default=(), description="grade, language or both: each (combination) weighs the same in all, by weights"
    )
    max_weight: float = Field(
        default=10.0,
        ge=1.0,
        description="most that balancing multiplies a label's weight by; a rare cell stays lighter",
    )
    engine: EngineName = Field(default="local", description="who labels: local, this process; ray, workers of Ray")
    ray: RayConfig = RayConfig()

    @property
    def weighs(self) -> bool:
        """Whether labels get weights."""
        return self.min_confidence is not None or bool(self.balance)

    @field_validator("balance")
    @classmethod
    def _once(cls, value: tuple[BalanceBy, ...]) -> tuple[BalanceBy, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"balance: expected each once, found {', '.join(value)}")
        return value

    def on_engine(self, engine: EngineName, address: str | None) -> LabelsConfig:
        """These settings on another engine, and with an address where one is told."""
        ray = self.ray if address is None else self.ray.model_copy(update={"address": address})
        return self.model_copy(update={"engine": engine, "ray": ray})


class SharesConfig(Config):
    """What part of the sample each source gives. They add up to 1."""

    impressions: float = Field(default=0.7, gt=0.0, le=1.0, description="pairs that the log shows")
    bm25: float = Field(default=0.2, ge=0.0, le=1.0, description="items that share the query's words, not in the log")
    embedding: float = Field(default=0.0, ge=0.0, le=1.0, description="nearest items by static token vectors")
    random: float = Field(default=0.1, ge=0.0, le=1.0, description="items drawn evenly: easy negatives")

    @model_validator(mode="after")
    def _add_up(self) -> SharesConfig:
        total = sum(self.model_dump().values())
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"shares: expected a sum of 1, found {total:g}")
        return self


class SampleConfig(Config):
    """Which pairs of a log, and beside it, are drawn for the teacher. Human-judged pairs and held-out queries never are."""

    paths: tuple[Path, ...] = Field(
        default=(), description="the log's Parquet files, or folders of them; none: the log of the data stage"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="query, item_id, position or language -> the file's column name"
    )
    pairs: int = Field(default=300_000, ge=1, description="pairs in all, of every source together")
    shares: SharesConfig = SharesConfig()
    strata: tuple[str, ...] = Field(
        default=("popularity", "language", "position"),
        description="what parts the impressions: popularity, position, or any column of the log or of the items",
    )
    popularity_bands: tuple[int, ...] = Field(
        default=(10, 100, 1000),
        description="first log rows a query of each higher band: here 1-9, 10-99, 100-999, 1000+",
    )
    position_bands: tuple[int, ...] = Field(
        default=(4, 11, 26), description="first position of each later band, of the pair's best position"
    )
    allocation: Allocation = Field(
        default="sqrt", description="places of a stratum by its pairs, by their square root, or the same for each"
    )
    quotas: dict[str, int] = Field(
        default_factory=dict, description='places of single strata, named by their values, "10-99 | de | 1-3"; first'
    )
    max_per_query: int = Field(default=50, ge=1, description="impressions of a query, before places are given out")
    max_per_item: int = Field(default=200, ge=1, description="impressions of an item, after the cap by query")
    pool_depth: int = Field(default=50, ge=1, description="ranks that BM25 and embedding neighbours are drawn from")
    threads: int | None = Field(default=None, ge=1, description="of DuckDB; default: all cores")
    memory_gib: float = Field(
        default=2.5, gt=0.1, description="DuckDB's own memory limit; beyond it, it spills to disk"
    )

    @model_validator(mode="after")
    def _check(self) -> SampleConfig:
        for name in self.columns:
            if name not in LOG_COLUMNS:
                raise ValueError(f"columns: expected some of {', '.join(LOG_COLUMNS)}, found {name}")
        for name, bands in (("popularity_bands", self.popularity_bands), ("position_bands", self.position_bands)):
            if list(bands) != sorted({band for band in bands if band > 1}):
                raise ValueError(f"{name}: expected rising whole numbers over 1, found {list(bands)}")
        for name, places in self.quotas.items():
            if places < 0:
                raise ValueError(f"quotas: expected places from 0 of {name}, found {places}")
        for name in self.strata:
            if name in ("query", "item_id") or self.strata.count(name) > 1:
                raise ValueError(f"strata: expected distinct columns, neither query nor item_id, found {name}")
        return self
