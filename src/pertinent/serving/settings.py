"""What an operator sets: limits, queue, deadline, keys. Passed to every worker as one JSON document."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from pertinent.config import Config
from pertinent.errors import ConfigError
from pertinent.files import reason_of

API_KEYS = "PERTINENT_API_KEYS"
ADMIN_KEYS = "PERTINENT_ADMIN_KEYS"


class Blend(Config):
    """How the final order is made of relevance r and the caller's engagement score e.

    weighted: relevance_weight * r + engagement_weight * e.
    product: r ** relevance_weight * e ** engagement_weight.
    floor: the items with P(grade >= grade) >= probability first, then the others; by e, then r, within each group.
    """

    kind: Literal["weighted", "product", "floor"] = "weighted"
    relevance_weight: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    engagement_weight: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    grade: int = Field(default=4, ge=2, le=100, description="shown grade, lowest 1")
    probability: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)


class Settings(Config):
    """Settings of a server. Times in seconds unless the name says otherwise."""

    bundle: Path
    shadow: Path | None = None
    shadow_share: float = Field(default=0.0, ge=0, le=1, description="share of requests that the shadow scores too")
    control: Path | None = Field(default=None, description="folder in which workers agree on the bundle; made by serve")
    blend: Blend = Blend()
    feature_log: Path | None = Field(default=None, description="folder for served features; see serving.feature_log")
    feature_log_share: float = Field(default=0.01, ge=0, le=1, description="share of requests in the feature log")
    feature_log_rows: int = Field(default=20_000, ge=1, description="candidates after which a file is written")
    feature_log_seconds: float = Field(default=60.0, gt=0, description="after which one is written at the latest")
    feature_log_queue_rows: int = Field(default=100_000, ge=1, description="candidates that may wait to be written")

    store: str | None = Field(
        default=None,
        description="a folder of changes laid over the bundle's items, or redis:// of all items; none: the bundle's alone",
    )
    store_connect_ms: float = Field(default=100.0, gt=0, description="to connect to Redis")
    store_read_ms: float = Field(default=50.0, gt=0, description="for Redis to answer a request's read")
    store_failures: int = Field(default=3, ge=1, description="reads in a row that fail before Redis is left alone")
    store_retry: float = Field(default=1.0, gt=0, description="between looks whether Redis is back")
    store_cache: int = Field(default=20_000, ge=0, description="items of Redis that a worker keeps")
    store_fresh: float = Field(default=1.0, ge=0, description="how long a kept item is served without a look at Redis")
    max_changes: int = Field(default=1_000, ge=1, description="items that one request puts or deletes")

    max_body_bytes: int = Field(default=4_000_000, ge=1_000)
    max_candidates: int = Field(default=5_000, ge=1)
    max_query_characters: int = Field(default=1_000, ge=1)
    max_text_characters: int = Field(default=20_000, ge=1)
    batch: int = Field(default=1_024, ge=1, description="candidates that go through the network at a time")
    queue: int = Field(
        default=16, ge=1, description="requests that a worker admits at once, the running one among them"
    )
    deadline_ms: float = Field(default=1_000.0, gt=0, description="of a request without the header X-Deadline-Ms")
    max_head_bytes: int = Field(default=65_536, ge=1_024, description="of a request line and its headers")
    head_timeout: float = Field(default=10.0, gt=0, description="for them to arrive, and for a first request")
    answer_timeout: float = Field(default=30.0, gt=0, description="for a client to go on reading an answer")
    body_timeout: float = Field(default=10.0, gt=0, description="for a request's body to arrive")
    load_timeout: float = Field(default=300.0, gt=0, description="for every worker to open a new bundle")
    poll: float = Field(default=0.25, gt=0, description="between looks at the bundle's link and at the other workers")
    drain: int = Field(default=30, ge=0, description="for requests in flight after SIGTERM")

    api_keys_file: Path | None = None
    admin_keys_file: Path | None = None
    log_queries: bool = False
    access_log: bool = True


def read_keys(file: Path | None, variable: str, environment: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """Keys from a file (one a line; # starts a comment) or, without one, from an environment variable, by commas.

    Raises ConfigError if the file cannot be read or holds no key, and for a key under 16 characters.
    """
    where = str(file) if file else variable
    if file is None:
        found = environment.get(variable, "").split(",")
    else:
        try:
            found = [line.split("#")[0] for line in file.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise ConfigError(f"{file}: keys cannot be read: {reason_of(error)}") from None
    keys = tuple(key.strip().encode() for key in found if key.strip())
    if file is not None and not keys:
        raise ConfigError(f"{file}: expected a key a line, found none")
    if any(len(key) < 16 for key in keys):
        raise ConfigError(f"{where}: expected keys of at least 16 characters, found a shorter one")
    return keys
