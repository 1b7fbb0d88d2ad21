"""The wire: what requests may say and what answers say.

Requests in our own shape refuse unknown keys; those in the shape of Cohere, Jina or TEI let them pass, since their
clients send options that a student has no use for.
"""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, model_validator

from pertinent.serving.settings import Blend

MAX_ID_CHARACTERS = 512
ItemId = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)]
Context = dict[
    Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=1000)] | bool | FiniteFloat | None
]


DegradedBy = Literal["unknown", "store"]  # an item without a score; a store that could not be asked


class Wire(BaseModel):
    """Base of requests in our own shape."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Foreign(BaseModel):
    """Base of requests in another project's shape."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class ScoreRequest(Wire):
    """Candidates by ID. language and context are accepted and not used by bundles of this version."""

    query: str
    item_ids: list[ItemId] = Field(min_length=1)
    language: str | None = Field(default=None, max_length=35)
    engagement: list[FiniteFloat] | None = Field(default=None, description="one an item; given back by /v1/rank only")
    context: Context | None = Field(default=None, max_length=50)

    @model_validator(mode="after")
    def _one_engagement_an_item(self) -> ScoreRequest:
        if self.engagement is not None and len(self.engagement) != len(self.item_ids):
            raise ValueError(
                f"engagement: expected {len(self.item_ids)} scores, one an item, found {len(self.engagement)}"
            )
        return self


class RankRequest(ScoreRequest):
    """Candidates with the caller's engagement scores (0 where none are given) and a blend."""

    blend: Blend | None = None
    top_n: int | None = Field(default=None, ge=1)
    explain: bool = False


class Document(Foreign):
    """A stored item by ID, a text, or both: the text is used where the ID is unknown."""

    id: ItemId | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _something(self) -> Document:
        if self.id is None and self.text is None:
            raise ValueError("expected id or text, found neither")
        return self


class RerankRequest(Foreign):
    """As Cohere (v1, v2) and Jina have it."""

    query: str
    documents: list[str | Document] = Field(min_length=1)
    model: str | None = Field(default=None, max_length=200)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None


class TeiRerankRequest(Foreign):
    """As text-embeddings-inference has it. A text may also be a document with an id."""

    query: str
    texts: list[str | Document] = Field(min_length=1)
    raw_scores: bool | None = False
    return_text: bool | None = False


class BundleRequest(Wire):
    """The bundle to load; without one, the one that the server was started with (its link may have changed)."""

    bundle: str | None = Field(default=None, min_length=1, max_length=4096)


class ItemsRequest(Wire):
    """Items to put, each whole: a field that is not sent is a field that the item has not."""

    items: list[dict[Annotated[str, Field(max_length=200)], JsonValue]] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_a_column(self) -> ItemsRequest:
        try:
            orjson.dumps(self.items)
        except orjson.JSONEncodeError as error:  # an integer of more than 64 bits, which JSON allows and no column does
            raise ValueError(f"items: {error}") from None
        return self


class ItemIdsRequest(Wire):
    """Items to delete."""

    item_ids: list[ItemId] = Field(min_length=1)


class ScoredItem(BaseModel):
    """null everywhere but in item_id for an unknown item."""

    item_id: str
    probabilities: list[float] | None = Field(description="P(grade), lowest grade first")
    expected_grade: float | None = Field(description="shown scale: 1 is the lowest grade")
    relevance: float | None = Field(description="expected gain over the top grade's gain, 0-1")


class ScoreResponse(BaseModel):
    """Items in the order asked for."""

    bundle: str = Field(description="the hash of the bundle that scored every item of this answer")
    items: list[ScoredItem]
    unknown: list[str]
    degraded: bool = Field(description="true where an item was unknown or the store could not be asked")
    degraded_by: list[DegradedBy]


class RankedItem(BaseModel):
    """parts and features only with explain."""

    item_id: str
    index: int
    score: float | None
    relevance: float | None
    parts: dict[str, float | bool | None] | None = None
    features: dict[str, float] | None = Field(default=None, description="values that the network read")
    contributions: dict[str, float] | None = Field(
        default=None, description="relevance lost when the feature takes the median of this request's candidates"
    )


class RankResponse(BaseModel):
    """Items best first; unknown ones last, by engagement, then in the order given."""

    bundle: str
    blend: Blend
    results: list[RankedItem]
    unknown: list[str]
    degraded: bool
    degraded_by: list[DegradedBy]


class RerankResult(BaseModel):
    """One document."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankResponse(BaseModel):
    """Best first. An unknown ID without a text scores 0."""

    id: str
    model: str
    results: list[RerankResult]
    meta: dict[str, object]


class TeiRank(BaseModel):
    """One text."""

    index: int
    score: float
    text: str | None = None


class ItemsPut(BaseModel):
    """What a put changed. unchanged: items that were as they are now, and were not written."""

    bundle: str
    written: int
    unchanged: int


class ItemsDeleted(BaseModel):
    """What a deletion changed. absent: items that were not there."""

    bundle: str
    deleted: int
    absent: int


class Problem(BaseModel):
    """Every answer that is not 2xx."""

    error: str
    type: str
    message: str
    request_id: str
