"""Configuration of the teacher stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pertinent.config import Config


class TeacherConfig(Config):
    """A cross-encoder over (query, item text), fine-tuned on human grades.

    The defaults were chosen on the Home Depot dev split; benchmarks/LOG.md holds the figures.
    """

    backbone: str = Field(
        default="intfloat/multilingual-e5-small",
        description="a local folder, a model hub's name, or packaged:multilingual-e5-small",
    )
    pooling: Literal["first", "mean"] = Field(default="mean", description="what the head reads of the last layer")
    max_tokens: int = Field(default=96, ge=16, description="tokens of query and item text together")
    max_query_tokens: int = Field(default=32, ge=4, description="tokens of the query; the rest of it is cut")
    target: Literal["grade", "interpolated"] = Field(
        default="grade",
        description="cross-entropy on the grade, or on the mean rating shared between its two neighbouring grades",
    )
    max_train_rows: int | None = Field(default=None, ge=1, description="human rows used; whole queries, seeded draw")
    epochs: int = Field(default=2, ge=1, description="passes over the human rows")
    batch_size: int = Field(default=32, ge=1, description="pairs an optimiser step")
    learning_rate: float = Field(default=1e-4, gt=0, description="peak, of the last layer and the head")
    layer_decay: float = Field(default=0.9, gt=0, le=1, description="learning rate ratio of a layer to the next above")
    warmup: float = Field(default=0.06, ge=0, lt=1, description="share of steps; then linear decay to zero")
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="inside the encoder; 0 trains 1.6 times faster on a CPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the processor multiplies it in hardware"
    )
    checkpoint_steps: int = Field(default=200, ge=1, description="optimiser steps between checkpoints")
    score_batch_tokens: int = Field(default=4096, ge=64, description="padded tokens a batch when scoring")
