"""Captions of the items' images, from a local model or an endpoint."""

from pertinent.captions.build import caption_inputs, caption_items
from pertinent.captions.config import CaptionsConfig

__all__ = ["CaptionsConfig", "caption_inputs", "caption_items"]
