"""A language model as a folder that other parts can load without knowing where it came from: a student's encoder."""

from __future__ import annotations

import shutil
from pathlib import Path

from pertinent.errors import ModelError
from pertinent.features.sentence import ABOUT, TOKENIZER
from pertinent.files import write_json
from pertinent.teacher.backbones import Backbone, architecture_of, embedding_rule, load_backbone


def write_encoder(backbone: Backbone, out: Path, *, max_tokens: int) -> None:
    """Write config.json, model.safetensors, tokenizer.json and encoder.json: prefixes, pooling, max_tokens.

    Raises ModelError for a decoder, whose graph the exporter would freeze to one length.
    """
    encoder = load_backbone(backbone)
    if architecture_of(encoder.config.model_type) == "decoder":
        raise ModelError(f"encoder: expected an encoder, found the decoder {encoder.config.model_type}")
    encoder.save_pretrained(out)
    shutil.copyfile(backbone.tokenizer_file, out / TOKENIZER)
    rule = embedding_rule(backbone)
    write_json(
        out / ABOUT,
        {
            "query_prefix": rule.query_prefix,
            "text_prefix": rule.text_prefix,
            "pooling": rule.pooling,
            "max_tokens": max_tokens,
        },
    )
