"""Configuration of second tries and of chat endpoints, for every stage that has some."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pertinent.config import Config


class RetryConfig(Config):
    """Second tries of fetches and of calls to an endpoint. Defaults are ours."""

    attempts: int = Field(default=5, ge=1, description="tries in all; then the row is quarantined")
    base_s: float = Field(default=0.5, ge=0, description="wait before the second try; doubles with each further one")
    max_s: float = Field(default=30.0, ge=0, description="longest wait of our own; jitter takes up to half of a wait")
    max_retry_after_s: float = Field(
        default=120.0, ge=0, description="longest Retry-After that is waited for; a longer one ends the tries"
    )


class EndpointConfig(Config):
    """An OpenAI-compatible server with POST BASE_URL/chat/completions: vLLM, llama.cpp, or a hosted model."""

    base_url: str = Field(pattern=r"^https?://", description="such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the server's name of the model")
    api_key_env: str | None = Field(default=None, description="environment variable that holds the key")
    concurrency: int = Field(default=8, ge=1, description="calls at a time")
    timeout_s: float = Field(default=60.0, gt=0, description="of one call in all")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further fields of the request; null takes one of ours out"
    )
