"""Real image files and tiny models of random weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image, ImageDraw

from pertinent.files import write_json

WORDS = ["a", "red", "blue", "green", "square", "circle", "on", "white", "the", "of", "picture", "small", "large"]


def draw_box(colour: str, size: tuple[int, int] = (64, 48), kind: str = "PNG", **options: Any) -> bytes:
    """An encoded image: a box of one colour on white."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill=colour)
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


def write_data_folder(folder: Path, images: dict[str, str | None]) -> Path:
    """A data stage's folder with an item a key, in that order, and its ``image``."""
    folder.mkdir(parents=True, exist_ok=True)
    items = {"item_id": list(images), "title": [f"item {key}" for key in images], "image": list(images.values())}
    pl.DataFrame(items, schema={"item_id": pl.String, "title": pl.String, "image": pl.String}).write_parquet(
        folder / "items.parquet"
    )
    judged = {"query_id": ["q"], "query": ["box"], "item_id": [next(iter(images))], "grade": [1], "split": ["train"]}
    pl.DataFrame(judged).write_parquet(folder / "judgments.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en"], "attributes": []}
    write_json(folder / "dataset.json", {**about, "scale": {"guidelines": ["bad", "good"]}})
    return folder


@pytest.fixture(scope="session")
def draw() -> Callable[..., bytes]:
    """``draw_box``."""
    return draw_box


@pytest.fixture(scope="session")
def write_data() -> Callable[..., Path]:
    """``write_data_folder``."""
    return write_data_folder


@pytest.fixture(scope="session")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP for captions: one layer of each kind, random weights, a word-piece tokenizer of a few words."""
    import torch
    import transformers as hf

    folder = tmp_path_factory.mktemp("tiny_blip")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *WORDS]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(pieces) + "\n")
    tokenizer = hf.BertTokenizer(str(vocabulary))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = hf.BlipConfig(
        text_config={**small, **ids, "vocab_size": len(pieces), "encoder_hidden_size": 16, "initializer_range": 1.0},
        vision_config={**small, "image_size": 32, "patch_size": 8, "initializer_range": 1.0},
        projection_dim=16,
    )
    torch.manual_seed(5)
    hf.BlipForConditionalGeneration(config).save_pretrained(folder)
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    hf.BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


CHAT = (
    "{% for message in messages %}USER: {% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ANSWER:"
)


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model: CLIP's vision tower and Llama, one layer each, random weights."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny_llava")
    pieces = ["<pad>", "<unk>", "<s>", "</s>", *WORDS, "user", "answer", ":", "describe", "this", "image", "."]
    words = Tokenizer(models.WordLevel({piece: k for k, piece in enumerate(pieces)}, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    spread = {"initializer_range": 0.5}
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**small, image_size=32, patch_size=8, projection_dim=16),
        text_config=hf.LlamaConfig(
            **small, **spread, vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=3, pad_token_id=0
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    torch.manual_seed(5)
    hf.LlavaForConditionalGeneration(config).save_pretrained(folder)
    size = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}
    hf.LlavaProcessor(
        CLIPImageProcessorPil(**size),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vit_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder of one layer each, with an image processor and a tokenizer but no processor."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny_vit_gpt2")
    pieces = ["<|endoftext|>", "<unk>", *WORDS]
    words = Tokenizer(models.WordLevel({piece: k for k, piece in enumerate(pieces)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"bos_token": pieces[0], "eos_token": pieces[0], "unk_token": "<unk>"}
    hf.PreTrainedTokenizerFast(tokenizer_object=words, **ends).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    encoder = hf.ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    decoder = hf.GPT2Config(
        vocab_size=len(pieces), n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.5,
    )  # fmt: skip
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = 0
    torch.manual_seed(5)
    hf.VisionEncoderDecoderModel(config=config).save_pretrained(folder)
    return folder
