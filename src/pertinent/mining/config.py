"""Configuration of what is mined: engaged queries and rates from a log, board titles from saves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pertinent.config import Config

# Our column of a log -> what it is; a file may name it otherwise (mine.log.columns).
LOG_COLUMNS = ("timestamp", "query", "item_id", "position", "action", "user", "session", "dwell_s")


class LogConfig(Config):
    """Where the log lies and how it is written."""

    paths: tuple[Path, ...] = Field(
        default=(), description="Parquet, CSV or JSONL files, or folders of them; none: the log of the data stage"
    )
    format: Literal["auto", "own", "ubi"] = Field(
        default="auto", description="ubi: OpenSearch User Behavior Insights 1.3; auto: JSONL with its fields is"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our column name -> the file's column name")
    actions: dict[str, str] = Field(
        default_factory=dict, description="the file's action -> ours; actions that are neither are counted and left out"
    )
    ubi_impressions: Literal["events", "hits"] = Field(
        default="events",
        description="UBI: impression events, or the hits of every query in their order (query_response_hit_ids)",
    )
    ubi_dwell: str | None = Field(
        default=None, description="UBI: JSON path of the seconds that a click led to, $.event_attributes.dwell_s say"
    )

    @model_validator(mode="after")
    def _known_columns(self) -> LogConfig:
        for name in self.columns:
            if name not in LOG_COLUMNS:
                raise ValueError(f"columns: expected some of {', '.join(LOG_COLUMNS)}, found {name}")
        return self


class ActionWeights(Config):
    """How much an action says of engagement; 0: nothing. A short click is none: it may be a disappointment."""

    click: float = Field(default=0.0, ge=0.0, le=100.0)
    long_click: float = Field(default=1.0, ge=0.0, le=100.0)
    save: float = Field(default=1.0, ge=0.0, le=100.0)
    hide: float = Field(default=0.0, ge=0.0, le=100.0)


class PropensityConfig(Config):
    """The chance that a result at a position is looked at: given, or 1 / rank^eta; never below the clip."""

    eta: float = Field(default=1.0, ge=0.0, le=5.0, description="0: no correction; 1 / rank: Joachims et al. 2017")
    clip: float = Field(
        default=0.1, ge=0.01, le=1.0, description="least propensity, so the most an action counts is 1/clip"
    )
    given: tuple[float, ...] = Field(
        default=(), description="propensities of ranks 1, 2, ... in place of the model; later ranks have the last"
    )
    first_position: Literal[0, 1] = Field(default=1, description="the position that the log writes for the top result")

    @model_validator(mode="after")
    def _are_propensities(self) -> PropensityConfig:
        for value in self.given:
            if not 0.0 < value <= 1.0:
                raise ValueError(f"given: expected numbers over 0 and up to 1, found {value}")
        return self


class MineConfig(Config):
    """What is mined from a log: engaged queries of items, and engagement rates."""

    log: LogConfig = LogConfig()
    since: datetime | None = Field(
        default=None, description="first moment that counts, ISO 8601; UTC where no zone is told"
    )
    until: datetime | None = Field(default=None, description="cut-off: what happened then or later never counts")
    half_life_days: float | None = Field(
        default=180.0, gt=0.0, description="age at which a row counts half; null: age does not matter"
    )
    weights: ActionWeights = ActionWeights()
    long_click_s: float = Field(default=10.0, ge=0.0, description="dwell from which a click is a long_click, seconds")
    propensity: PropensityConfig = PropensityConfig()
    max_queries: int = Field(default=20, ge=1, description="engaged queries kept of an item, the heaviest")
    min_actions: int = Field(
        default=1, ge=1, description="engaged actions that a query needs on an item to be one of its"
    )
    prior_strength: float = Field(
        default=20.0, gt=0.0, description="examined impressions at the prior mean that every rate starts from"
    )
    k: int = Field(default=5, ge=1, description="distinct users that must have issued a query for it to appear")
    k_by: Literal["user", "session"] = Field(
        default="user", description="what is counted against k: sessions only stand in where a log has no users"
    )
    n_folds: int = Field(default=5, ge=2, le=16, description="cross-fitting folds of the queries; 5 is the contract's")
    threads: int | None = Field(default=None, ge=1, description="of DuckDB; default: all cores")
    memory_gib: float = Field(
        default=2.5, gt=0.1, description="DuckDB's own memory limit; beyond it, it spills to disk"
    )

    @model_validator(mode="after")
    def _check_window(self) -> MineConfig:
        if self.since and self.until and as_utc(self.since) >= as_utc(self.until):
            raise ValueError(f"since: expected a moment before until ({self.until}), found {self.since}")
        if self.log.ubi_impressions == "hits" and self.propensity.first_position != 1:
            raise ValueError("propensity.first_position: expected 1 with log.ubi_impressions: hits, found 0")
        if not any(self.weights.model_dump().values()):
            raise ValueError("weights: expected an action with a weight over 0, found none")
        return self


class BoardsConfig(Config):
    """What is kept of the titles of the boards that users saved items to."""

    path: Path | None = Field(
        default=None, description="boards.parquet|csv|jsonl, or the folder that has it; default: the dataset folder"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="item_id, title or user -> the file's column name"
    )
    max_titles: int = Field(default=10, ge=1, description="titles kept of an item, those of the most users")
    k: int = Field(
        default=2, ge=1, description="distinct users that must have used a title, on whatever items, for it to appear"
    )
    generic_share: float = Field(
        default=0.01,
        gt=0.0,
        le=1.0,
        description="a title of more than this share of all boards says nothing of an item",
    )
    generic_boards: int = Field(
        default=100, ge=1, description="boards that a title needs at least to be called generic"
    )
    memory_gib: float = Field(default=2.5, gt=0.1, description="DuckDB's own memory limit")
    threads: int | None = Field(default=None, ge=1, description="of DuckDB; default: all cores")

    @model_validator(mode="after")
    def _known_columns(self) -> BoardsConfig:
        for name in self.columns:
            if name not in ("item_id", "title", "user"):
                raise ValueError(f"columns: expected some of item_id, title, user, found {name}")
        return self


def as_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
