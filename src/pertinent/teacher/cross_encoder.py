"""The teacher network: a language model that reads query and item text, and a head that gives grade logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from pertinent.teacher.config import HeadKind, Pooling
from pertinent.teacher.heads import GradeHead, cross_entropy
from pertinent.types import Scale

# A BERT-like model would otherwise draw a random pooler, which nothing here reads.
_WITH_POOLER = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})
ENCODER_DECODERS = frozenset({"t5", "mt5", "umt5"})  # of these the encoder is used


class CrossEncoderConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped here
    """encoder: the language model's own config. pooling, head: as in TeacherConfig. id2label: L1..Ln, stored order.

    segments: whether the network reads token_type_ids. A folder written before there were any has none.
    """

    model_type = "pertinent-cross-encoder"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012  as transformers declares it

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        pooling: Pooling = "mean",
        head: HeadKind = "softmax",
        segments: bool = False,
        **rest: Any,
    ) -> None:
        known: Any = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
        self.encoder = known
        self.pooling = pooling
        self.head = head
        self.segments = segments
        if known is not None:
            # The base class would forget which attention kernel a language model that is already built runs.
            rest.setdefault("attn_implementation", known._attn_implementation)
        super().__init__(**rest)

    @classmethod
    def of(
        cls, encoder: PreTrainedConfig, pooling: Pooling, head: HeadKind, n_grades: int, *, segments: bool = False
    ) -> CrossEncoderConfig:
        """The config of a new network on this scale."""
        names = dict(enumerate(Scale.of_size(n_grades).shown))
        labels: dict[str, Any] = {"id2label": names, "label2id": {name: k for k, name in names.items()}}
        return cls(encoder, pooling, head, segments, pad_token_id=encoder.pad_token_id, **labels)

    @property
    def n_grades(self) -> int:
        """Grades of the scale, n."""
        return len(self.id2label)


class CrossEncoder(PreTrainedModel):  # type: ignore[misc]
    """Language model, pooling and head. A Hugging Face model: `AutoModelForSequenceClassification` opens its folder.

    forward: input_ids, attention_mask and, of a network with segments, token_type_ids, each (B, T) int64, padded on the
    right; optional target_probs (B, n) float32 and weights (B,) float32. Without segments, token_type_ids are not read,
    as transformers' own tokenizers give them to any model. Gives logits (B, n or n - 1) float32 and, with targets, the mean loss of `heads`.
    Source: arXiv 2410.17152, section 3.
    """

    config_class = CrossEncoderConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: CrossEncoderConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.encoder = _empty_encoder(config.encoder) if encoder is None else encoder
        self.head = GradeHead(config.encoder.hidden_size, config.n_grades, config.head)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, GradeHead):
            module.reset()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        target_probs: Tensor | None = None,
        weights: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.config.segments:
            if token_type_ids is None:
                raise ValueError("token_type_ids: expected those of the pair's two texts, found none")
            inputs["token_type_ids"] = token_type_ids
        states = self.encoder(**inputs).last_hidden_state
        # The head is always float32: in half precision a trained head loses grades that lie close.
        with torch.autocast(states.device.type, enabled=False):
            logits = self.head(pool(states, attention_mask, self.config.pooling).float())
            loss = None
            if target_probs is not None:
                loss = cross_entropy(self.config.head, logits, target_probs, weights)
        return SequenceClassifierOutput(loss=loss, logits=logits)


AutoConfig.register(CrossEncoderConfig.model_type, CrossEncoderConfig)
AutoModelForSequenceClassification.register(CrossEncoderConfig, CrossEncoder)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(B, T, d) states of right-padded rows -> (B, d): the first token's, the mean, or the last token's."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(states.shape[0], device=states.device), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(torch.float32)
    return (states.float() * weights).sum(1) / weights.sum(1)


def encoder_class(config: PreTrainedConfig) -> tuple[Any, dict[str, Any]]:
    """The auto class that builds a language model without heads or decoder, and the options it needs."""
    if config.model_type in ENCODER_DECODERS:
        return AutoModelForTextEncoding, {}
    return AutoModel, {"add_pooling_layer": False} if config.model_type in _WITH_POOLER else {}


def _empty_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    auto, options = encoder_class(config)
    return auto.from_config(config, **options)
