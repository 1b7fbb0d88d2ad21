"""Configuration of the student stage."""

from __future__ import annotations

from pydantic import Field

from pertinent.bundle.vectors import Precision
from pertinent.config import Config


class FeaturesConfig(Config):
    """Features beside those of texts. All are off unless named."""

    columns: tuple[str, ...] = Field(
        default=(), description="numeric or vector columns of items.parquet, as they are (numeric.price, embedding)"
    )
    interest: str | None = Field(
        default=None, description="column of items.parquet with an item's category; a query's interest is over these"
    )
    engagement: bool = Field(default=False, description="smoothed rates of items and pairs, from the mine stage")
    graph: int = Field(
        default=0, ge=0, le=256, description="dimensions of vectors from engaged queries and boards; 0: none"
    )


class ExportConfig(Config):
    """How the student is stored in a bundle."""

    vectors: Precision = Field(
        default="float16",
        description="numbers of the stored item vectors: float32, float16 or int8; the manifest tells what rounding costs",
    )


class StudentConfig(Config):
    """A feed-forward network over lexical features and static token vectors, learning soft grades."""

    features: FeaturesConfig = FeaturesConfig()
    export: ExportConfig = ExportConfig()
    dimensions: int = Field(default=64, ge=4, le=128, description="of a token vector")
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
