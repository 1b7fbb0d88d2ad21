"""Configuration of the captions stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pertinent.config import Config
from pertinent.data.columns import ColumnConfig
from pertinent.web.config import EndpointConfig, RetryConfig


class ImagesConfig(ColumnConfig):
    """Where the images are, and how large one may be. Limits are ours."""

    column: str = Field(default="image", description="column of image URLs, of files in `folder`, or of image bytes")
    folder: Path | None = Field(default=None, description="where image files lie; without it only URLs and bytes pass")
    max_bytes: int = Field(default=20_000_000, ge=1, description="of one image, encoded")
    max_pixels: int = Field(default=50_000_000, ge=1, description="width x height of one image, before it is decoded")
    max_side: int = Field(
        default=768, ge=32, description="pixels; a larger image is scaled down before it is captioned"
    )
    animated: Literal["first", "refuse"] = Field(
        default="first", description="of an animated image take the first frame, or quarantine it"
    )


class FetchConfig(Config):
    """How images are fetched from URLs. Defaults are ours."""

    concurrency: int = Field(default=8, ge=1, description="images loaded at a time")
    timeout_s: float = Field(default=30.0, gt=0, description="of one request in all, redirects included")
    max_redirects: int = Field(default=3, ge=0, description="each hop's address is checked anew")
    content_types: tuple[str, ...] = Field(
        default=("image/", "application/octet-stream", "binary/octet-stream"),
        description="what a Content-Type may begin with; a server that names none passes",
    )
    allow_hosts: tuple[str, ...] = Field(
        default=(), description="hosts, written as in the URL, that may have a private, loopback or other local address"
    )


class ChecksConfig(Config):
    """Which captions pass. Defaults are ours."""

    strip_openings: bool = Field(default=True, description='take off openings such as "a picture of"')
    max_chars: int = Field(
        default=300, ge=8, description="a longer caption is cut to the whole sentences that fit, or quarantined"
    )
    max_repeats: int = Field(
        default=2, ge=1, description="times in a row that a phrase may stand; more is a model that runs in a circle"
    )


class CaptionsConfig(Config):
    """One caption an image, from a Hugging Face model or, where `endpoint` is given, from a server."""

    images: ImagesConfig = ImagesConfig()
    fetch: FetchConfig = FetchConfig()
    retry: RetryConfig = RetryConfig()
    model: str = Field(
        default="Salesforce/blip-image-captioning-base",
        description="a local folder or a model hub's name of an image-to-text model; the paper uses BLIP",
    )
    endpoint: EndpointConfig | None = None
    prompt: str | None = Field(
        default=None,
        description="what the model is asked; default: nothing for BLIP and its like, which caption unasked, and one "
        "plain sentence for chat models and endpoints",
    )
    max_new_tokens: int = Field(default=60, ge=1, description="tokens of a caption")
    beams: int = Field(default=3, ge=1, description="of the beam search of a local model; there is no sampling")
    batch_size: int = Field(default=16, ge=1, description="images a forward pass of a local model")
    precision: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of a local model")
    checks: ChecksConfig = ChecksConfig()
    unit_images: int = Field(default=128, ge=1, description="table rows a unit of work: the most that a kill can cost")
    cache: Path | None = Field(
        default=None, description="folder of captions that any run may share; default: captions/ in the user's cache"
    )

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, prompt: str | None) -> str | None:
        if prompt is not None and not prompt.strip():
            raise ValueError("expected a text or null, found an empty one")
        return prompt

    @model_validator(mode="after")
    def _one_model(self) -> CaptionsConfig:
        # Compared with the default: a resolved config that is read again has every key.
        if self.endpoint is not None and self.model != type(self).model_fields["model"].default:
            raise ValueError("model: expected either a local model or an endpoint, found both")
        return self
