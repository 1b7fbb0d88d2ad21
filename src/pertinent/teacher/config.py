"""Configuration of the teacher stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pertinent.config import Config

HeadKind = Literal["softmax", "coral", "corn"]
Pooling = Literal["first", "mean", "last"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]


class LoraSettings(Config):
    """Low-rank adapters on every linear layer of the language model. Source: Hu et al. 2021, arXiv 2106.09685."""

    rank: int = Field(default=16, ge=1, description="of each adapter")
    alpha: int = Field(default=32, ge=1, description="an adapter's output is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of an adapter's input")


class AugmentationSettings(Config):
    """Changes to the training pairs, drawn anew each epoch; dev and test pairs are never changed."""

    field_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="chance that a field of the item text is left out; one always stays"
    )
    misspelling: float = Field(
        default=0.0, ge=0, le=1, description="chance that a query gets one random typing error in a word of 4+ letters"
    )

    @property
    def active(self) -> bool:
        """Whether pairs differ from one epoch to the next."""
        return self.field_dropout > 0 or self.misspelling > 0


class TeacherConfig(Config):
    """A cross-encoder over (query, item text), fine-tuned on human grades. Defaults are ours; the paper gives none."""

    backbone: str = Field(
        default="intfloat/multilingual-e5-small",
        description="a local folder, a model hub's name, packaged:multilingual-e5-small or packaged:gemma-3-270m",
    )
    pooling: Pooling | None = Field(
        default=None, description="state that the head reads; default: mean for encoders, last for decoders"
    )
    template: str = Field(
        default="Query: {query}\nItem: {text}\nRelevance:", description="what a decoder reads; encoders have their own"
    )
    pad_token: str | None = Field(
        default=None, description="padding token of a backbone whose config names none; it is never attended to"
    )
    max_tokens: int = Field(default=96, ge=16, description="tokens of query, item text and template together")
    max_query_tokens: int = Field(default=32, ge=4, description="tokens of the query; the rest of it is cut")

    head: HeadKind = Field(default="softmax", description="one logit a grade, or an ordinal head: coral, corn")
    target: Literal["grade", "interpolated", "raters"] = Field(
        default="interpolated",
        description="cross-entropy on the grade; on the mean rating shared between its two neighbouring grades, which is "
        "the grade where there is one rating; or on the raters' own distribution, where the judgments came as rows of a rater each",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of a target spread over all grades")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: a pair weighs in inverse proportion to how common its grade is"
    )

    tuning: Literal["full", "lora", "qlora"] = Field(
        default="full", description="all weights; adapters; or adapters on a 4-bit (NF4) language model"
    )
    lora: LoraSettings = LoraSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    members: int = Field(default=1, ge=1, description="models of different seeds; their probabilities are averaged")
    max_train_rows: int | None = Field(
        default=None, ge=1, description="human rows used: queries in a seeded order until there are so many"
    )
    epochs: int = Field(default=2, ge=1, description="passes over the human rows")
    batch_size: int = Field(default=32, ge=1, description="pairs an optimiser step, on all devices together")
    device_batch_size: int | None = Field(
        default=None, ge=1, description="pairs a forward pass; gradients add up to batch_size; default: batch_size"
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="peak, of the last layer and the head")
    layer_decay: float = Field(default=0.9, gt=0, le=1, description="learning rate ratio of a layer to the next above")
    warmup: float = Field(default=0.06, ge=0, lt=1, description="share of steps; then linear decay to zero")
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="inside the language model, where it has any; 0 trains faster on a CPU",
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay a step of a moving average of the weights, which is then kept"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for a third more arithmetic")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the processor multiplies it in hardware"
    )
    checkpoint_steps: int = Field(default=200, ge=1, description="optimiser steps between checkpoints")
    score_batch_tokens: int | None = Field(
        default=None, ge=64, description="padded tokens a batch when scoring; default: 1,024 on a CPU, else 16,384"
    )
    trackers: tuple[Tracker, ...] = Field(
        default=(), description="what logs the training, in the folder trackers/: tensorboard, mlflow, wandb"
    )

    @model_validator(mode="after")
    def _check(self) -> TeacherConfig:
        if self.device_batch_size is not None and self.batch_size % self.device_batch_size:
            raise ValueError(
                f"device_batch_size: expected a divisor of batch_size {self.batch_size}, found {self.device_batch_size}"
            )
        if self.max_query_tokens >= self.max_tokens - 4:
            raise ValueError(
                f"max_query_tokens: expected under max_tokens - 4 = {self.max_tokens - 4}, found {self.max_query_tokens}"
            )
        return self
