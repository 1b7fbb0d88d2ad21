from __future__ import annotations

import os
from pathlib import Path

# Tiny models are slower on two threads than on one; also for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

TINY_WORDS = [
    "red",
    "blue",
    "green",
    "oak",
    "velvet",
    "leather",
    "sofa",
    "couch",
    "armchair",
    "chair",
    "table",
    "lamp",
    "rug",
    "small",
    "large",
    "modern",
    "rustic",
    "title",
    ":",
    "|",
    "description",
    "color",
    "brand",
    "soup",
    "cake",
    "pasta",
    "recipe",
    "easy",
    "dress",
    "coat",
    "shirt",
    "cotton",
    "wool",
    "angle",
    "bracket",
    "12",
    "24",
    "in",
    "ft",
]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a random two-layer BERT and a word-piece tokenizer: real code, no download."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_bert")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.-,;!'\"/"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys([*TINY_WORDS, *letters, *(f"##{c}" for c in letters)])]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
