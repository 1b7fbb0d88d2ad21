"""Attention for short texts on a CPU, as an implementation that transformers' encoders can be told to run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from pertinent.teacher.backbones import architecture_of

SHORT_ATTENTION = "pertinent_short"
# Up to here whole score matrices fit the caches: twice the speed of torch's fused kernel on a CPU in bfloat16, which
# is made for long texts; three times slower at 256 tokens (benchmarks/LOG.md).
_SHORT_TOKENS = 128


def short_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention by two batched products, with the softmax in float32; for inference.

    query, key, value: (B, H, T, d). attention_mask: additive, (B, 1, T, T), or None. Returns (B, T, H, d).
    Longer texts go to torch's own kernel.
    """
    batch, heads, tokens, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    if tokens > _SHORT_TOKENS:
        fused = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scale)
        return fused.transpose(1, 2), None
    flat = (batch * heads, tokens, width)
    scores = torch.bmm((query * scale).reshape(flat), key.reshape(flat).transpose(1, 2))
    if attention_mask is not None:
        scores = scores.view(batch, heads, tokens, tokens).add_(attention_mask).view(batch * heads, tokens, tokens)
    probs = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.bmm(probs, value.reshape(flat)).view(batch, heads, tokens, width).transpose(1, 2), None


def use_short_attention(encoder: PreTrainedModel) -> bool:
    """Let an encoder run ``short_attention``; False, and nothing changed, for a decoder or an attention of its own."""
    if architecture_of(encoder.config.model_type) == "decoder" or not encoder._supports_attention_backend:
        return False
    encoder.set_attn_implementation(SHORT_ATTENTION)
    return True


AttentionInterface.register(SHORT_ATTENTION, short_attention)
AttentionMaskInterface.register(SHORT_ATTENTION, eager_mask)
