"""Configuration of the student stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pertinent.bundle.vectors import Precision
from pertinent.config import Config


class FeaturesConfig(Config):
    """Features beside those of texts, off unless named; and what to leave out, to see what it is worth."""

    columns: tuple[str, ...] = Field(
        default=(), description="numeric or vector columns of items.parquet, as they are (numeric.price, embedding)"
    )
    interest: str | None = Field(
        default=None, description="column of items.parquet with an item's category; a query's interest is over these"
    )
    engagement: bool = Field(default=False, description="smoothed rates of items, from the mine stage")
    graph: int = Field(
        default=0, ge=0, le=256, description="dimensions of vectors from engaged queries and boards; 0: none"
    )
    without: tuple[str, ...] = Field(
        default=(),
        description="features that count for nothing, by name or pattern (title.*, *.bm25); vectors: those of the texts",
    )


class ExportConfig(Config):
    """How the student is stored in a bundle."""

    vectors: Precision = Field(
        default="float16",
        description="numbers of the stored item vectors: float32, float16 or int8; the manifest tells what rounding costs",
    )


class SentenceConfig(Config):
    """A sentence encoder, frozen; its vectors are projected to ``dimensions`` numbers by weights that are learned."""

    backbone: str = Field(
        default="packaged:multilingual-e5-small", description="as the teacher's: packaged:NAME, a folder, a hub's name"
    )
    max_tokens: int = Field(default=64, ge=4, le=512, description="of a query or an item text, special tokens included")


class TowerConfig(Config):
    """The sentence encoder trained on the labels before it is frozen."""

    rows: int = Field(default=100_000, ge=1, description="label rows of a pass at most, drawn anew for each")
    epochs: int = Field(default=1, ge=1, description="passes")
    batch_size: int = Field(default=32, ge=1, description="pairs a step")
    learning_rate: float = Field(default=5e-5, gt=0, description="of the transformer; decays to zero along a cosine")
    levels_learning_rate: float = Field(default=0.01, gt=0, description="of each grade's slope and level")
    checkpoint_steps: int = Field(default=500, ge=1, description="steps between checkpoints: the most a kill can cost")


class TreesConfig(Config):
    """LightGBM on the scalar features: the declared ones and the cosine of the encoder's vectors."""

    rounds: int = Field(default=600, ge=1, description="trees of each grade at most")
    leaves: int = Field(default=63, ge=2, description="of a tree")
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    min_leaf_rows: int = Field(default=50, ge=1, description="label rows a leaf at least")
    feature_share: float = Field(default=0.8, gt=0, le=1, description="of the features, drawn for each tree")
    patience: int = Field(default=10, ge=1, description="tens of rounds without a better dev AUROC before it stops")


class StudentConfig(Config):
    """A feed-forward network over features and vectors of texts, or boosted trees, learning soft grades."""

    backend: Literal["network", "lightgbm"] = Field(default="network", description="what is trained on the features")
    encoder: Literal["static", "sentence", "tower"] = Field(
        default="static",
        description="vectors of texts: tuned token vectors, a frozen sentence encoder, or one trained on the labels first",
    )
    sentence: SentenceConfig = SentenceConfig()
    tower: TowerConfig = TowerConfig()
    trees: TreesConfig = TreesConfig()
    features: FeaturesConfig = FeaturesConfig()
    export: ExportConfig = ExportConfig()
    dimensions: int = Field(default=64, ge=4, le=128, description="of the vector of a text")
    hidden: tuple[int, ...] = Field(default=(256, 128), min_length=1, description="units of the hidden layers")
    epochs: int = Field(default=12, ge=1, description="passes over the labels at most")
    patience: int = Field(default=3, ge=1, description="epochs without a better dev AUROC before training stops")
    batch_size: int = Field(
        default=512, ge=1, description="pairs an optimiser step; fewer where an epoch would have under 16 steps"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="of the network; decays to zero along a cosine")
    vector_learning_rate: float = Field(default=2e-3, gt=0, description="of the token vectors and weights")
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of hidden units and vectors")
    feature_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="chance that a feature of a training pair is put at its mean"
    )
    temperature: float = Field(default=1.0, gt=0, le=20, description="that softens labels and logits in training")
    margin_weight: float = Field(
        default=0.0, ge=0, description="of the loss between items of one query, beside the cross-entropy"
    )
    human_weight: float = Field(
        default=0.0, ge=0, description="of a judged training pair, where a labelled one weighs 1; 0: labels alone"
    )
    buffer_rows: int = Field(
        default=524_288, ge=1, description="label rows in memory that are shuffled together; about 250 bytes each"
    )
    workers: int = Field(default=1, ge=1, description="processes that compute the features of label rows")
    probe_pairs: int = Field(default=1000, ge=1, description="pairs replayed by the parity gate")

    @model_validator(mode="after")
    def _trees_have_their_own_loss(self) -> StudentConfig:
        asked = {name: getattr(self, name) for name in ("margin_weight", "feature_dropout") if getattr(self, name) > 0}
        if self.temperature != 1.0:
            asked["temperature"] = self.temperature
        if self.backend == "lightgbm" and asked:
            name, value = next(iter(asked.items()))
            raise ValueError(f"{name}: expected the network's backend for it, found {value} with lightgbm")
        return self
