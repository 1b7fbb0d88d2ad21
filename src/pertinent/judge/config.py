"""Configuration of the LLM judge."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pertinent.config import Config
from pertinent.web.config import EndpointConfig, RetryConfig


class JudgeConfig(Config):
    """A chat endpoint that grades pairs, what it is asked, and what it may cost. Defaults are ours."""

    endpoint: EndpointConfig
    retry: RetryConfig = RetryConfig()
    template: Path | None = Field(
        default=None, description="Jinja file with blocks system and user, of {{ query }}, {{ item }} and grades"
    )
    method: Literal["auto", "logprobs", "samples"] = Field(
        default="auto",
        description="of a soft label: log-probabilities of the grade, shares of sampled answers, or the second where "
        "the server gives no first",
    )
    top_logprobs: int = Field(default=20, ge=2, le=20, description="tokens whose log-probabilities are asked for")
    samples: int = Field(default=8, ge=1, description="answers a pair, each a call, where they are sampled")
    temperature: float = Field(default=1.0, gt=0.0, description="of sampled answers; log-probabilities are asked at 0")
    max_tokens: int = Field(default=8, ge=1, description="of an answer; a model that reasons first needs more")
    requests_per_minute: float | None = Field(default=None, gt=0.0, description="calls start evenly within this")
    tokens_per_minute: float | None = Field(default=None, gt=0.0, description="of prompts and answers together")
    usd_per_1k_input: float = Field(default=0.0, ge=0.0, description="price of 1,000 tokens of prompts")
    usd_per_1k_output: float = Field(default=0.0, ge=0.0, description="price of 1,000 tokens of answers")
    max_usd: float | None = Field(
        default=None, gt=0.0, description="spend limit of one folder of labels, over all starts; never passed"
    )
    cache: Path | None = Field(
        default=None, description="folder of answers that any run may share; default: judge/ in the user's cache"
    )

    @model_validator(mode="after")
    def _has_a_price(self) -> JudgeConfig:
        if self.max_usd is not None and self.usd_per_1k_input == self.usd_per_1k_output == 0.0:
            raise ValueError("max_usd: expected usd_per_1k_input or usd_per_1k_output beside it, found neither")
        return self

    @property
    def most_output_tokens(self) -> int:
        """The most that one answer may have, by max_tokens or what endpoint.extra puts in its place."""
        told = [self.endpoint.extra.get(name) for name in ("max_tokens", "max_completion_tokens")]
        return max([value for value in told if isinstance(value, int)], default=self.max_tokens)
