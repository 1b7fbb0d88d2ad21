"""Where a teacher's language model comes from: a local folder, a model hub, or the packages of `packaged.py`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pertinent.errors import ConfigError, ModelError
from pertinent.files import atomic_path, cache_folder, read_json
from pertinent.progress import say
from pertinent.teacher import packaged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKAGED_PREFIX = "packaged:"
Architecture = Literal["encoder", "decoder"]
_SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "merges.txt",
    "*.index.json",
    "config_sentence_transformers.json",
    "1_Pooling/*",
)
_OLDER_TOKENIZERS = ("spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
_EDGE_BYTES = 2**20  # read at each end of a weights file for its fingerprint


@dataclass(frozen=True)
class Backbone:
    """A resolved language model: what to load, and one line that says exactly which weights these are."""

    name: str
    folder: Path | None  # None: the packaged encoder
    tokenizer_file: Path
    description: str


@dataclass(frozen=True)
class EmbeddingRule:
    """How a sentence encoder wants its texts: what stands before them, and which states make the vector."""

    query_prefix: str
    text_prefix: str
    pooling: Literal["first", "mean", "last"]


def resolve_backbone(name: str) -> Backbone:
    """Find a language model by name: ``packaged:NAME``, a local folder, the hub's local cache, the hub.

    multilingual-e5-small falls back to the packaged weights when no hub answers, and says so on stderr; the
    manifest records which weights were used. Raises ModelError where nothing was found.
    """
    if name.startswith(PACKAGED_PREFIX):
        return _packaged(name.removeprefix(PACKAGED_PREFIX))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(name, folder)
    try:
        return _from_folder(name, _download(name))
    except ModelError as error:
        if name.rpartition("/")[2] != packaged.PACKAGED_E5:
            raise
        backbone = _packaged(packaged.PACKAGED_E5)
        say(f"teacher: {error}; using {backbone.description}")
        return backbone


def load_backbone(
    backbone: Backbone, *, four_bit: bool = False, half: bool = False, dropout: float | None = None
) -> PreTrainedModel:
    """The language model without decoder or heads, in eval mode; float32, or NF4 with ``four_bit``.

    half: hold the weights of linear layers as the folder stores them, where that is half precision: for a base that stays
    as it is (adapters) and multiplies in bfloat16. dropout: every rate of dropout that the model's config names; None leaves them as they are.
    Raises ModelError when the folder's weights are absent, damaged or not of a text model.
    """
    if backbone.folder is None:
        if four_bit:
            raise ConfigError(f"teacher.tuning: qlora needs a model folder, found {backbone.name}; use lora or full")
        return packaged.load_packaged_e5()
    return _load_folder(backbone.folder, four_bit, half, dropout)


def architecture_of(model_type: str) -> Architecture:
    """decoder for causal language models (Llama, Gemma, Qwen), encoder for the rest (BERT, T5's encoder)."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    from pertinent.teacher.cross_encoder import ENCODER_DECODERS

    causal = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "decoder" if causal and model_type not in ENCODER_DECODERS else "encoder"


def embedding_rule(backbone: Backbone) -> EmbeddingRule:
    """How to embed with it: E5 by its name, else what its sentence-transformers files say, else plain mean pooling."""
    if backbone.folder is None or re.search(r"(^|[-_])e5([-_]|$)", backbone.name.rpartition("/")[2].lower()):
        return EmbeddingRule("query: ", "passage: ", "mean")
    prompts = _json_or_empty(backbone.folder / "config_sentence_transformers.json").get("prompts") or {}
    pooling = _json_or_empty(backbone.folder / "1_Pooling" / "config.json")
    kind: Literal["first", "mean", "last"] = "mean"
    if pooling.get("pooling_mode_cls_token"):
        kind = "first"
    elif pooling.get("pooling_mode_lasttoken"):
        kind = "last"
    text_prefix = prompts.get("document", prompts.get("passage", ""))
    return EmbeddingRule(prompts.get("query", ""), text_prefix, kind)


def _load_folder(folder: Path, four_bit: bool, half: bool, dropout: float | None) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, BitsAndBytesConfig
    from transformers.utils import logging

    from pertinent.teacher.cross_encoder import encoder_class
    from pertinent.teacher.precision import hold_in_half

    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder)
        if getattr(config, "text_config", None) is not None:
            found = f"{config.model_type}, which reads more than text; its text model alone may be a folder of its own"
            raise ModelError(f"{folder / 'config.json'}: expected a text model, found {found}")
        auto, options = encoder_class(config)
        for name, rate in list(vars(config).items()) if dropout is not None else ():
            if "dropout" in name and isinstance(rate, int | float) and not isinstance(rate, bool):
                setattr(config, name, dropout)
        if four_bit:
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
        stored = config.dtype if half and config.dtype in (torch.bfloat16, torch.float16) else torch.float32
        model, report = auto.from_pretrained(folder, config=config, dtype=stored, output_loading_info=True, **options)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder}: cannot load a language model: {reason}") from None
    if not hasattr(model.get_input_embeddings(), "weight") or model.config.is_encoder_decoder:
        raise ModelError(f"{folder}: expected a text encoder, T5 or a decoder, found {type(model).__name__}")
    if absent := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
        # transformers would train on from random weights, and only warn.
        raise ModelError(f"{folder}: {len(absent)} of the model's weights are not in the folder, such as {absent[0]}")
    if stored != torch.float32:
        hold_in_half(model, stored)
        model.config.dtype = torch.float32  # what a network made of this config is, and is saved in
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Once it has scored, bitsandbytes would keep a 4-bit layer in a form that passes no gradient.
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def _packaged(name: str) -> Backbone:
    if name == packaged.PACKAGED_E5:
        packaged.packaged_e5_folder()  # raises, naming the package, when it is absent
        tokenizer_file = packaged.packaged_tokenizer_file()
        return Backbone(PACKAGED_PREFIX + name, None, tokenizer_file, packaged.describe_packaged_e5())
    if name == packaged.PACKAGED_GEMMA:
        folder = packaged.packaged_gemma_folder()
        return _from_folder(PACKAGED_PREFIX + name, folder)
    known = ", ".join(PACKAGED_PREFIX + known for known in (packaged.PACKAGED_E5, packaged.PACKAGED_GEMMA))
    raise ConfigError(f"teacher.backbone: expected one of {known}, found {PACKAGED_PREFIX}{name}")


def _from_folder(name: str, folder: Path) -> Backbone:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: expected a Hugging Face model folder with config.json, found none")
    fingerprint = _fingerprint(folder)
    return Backbone(name, folder, _tokenizer_file(folder, fingerprint), f"{name}, weights {fingerprint}")


def _tokenizer_file(folder: Path, fingerprint: str) -> Path:
    """The folder's tokenizer.json; where it has the older files alone (mDeBERTa), one made of them, in the cache."""
    own = folder / "tokenizer.json"
    made = cache_folder() / "tokenizers" / f"{fingerprint}.json"
    if own.is_file() or made.is_file():
        return own if own.is_file() else made
    if not any((folder / older).is_file() for older in _OLDER_TOKENIZERS):
        raise ModelError(f"{folder}: expected a Hugging Face model folder with tokenizer.json, found none")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        made.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(made) as temporary:
            tokenizer.backend_tokenizer.save(str(temporary))
    except Exception as error:  # the conversion fails in many ways, most often for want of sentencepiece
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder}: no tokenizer.json, and none can be made: {reason[:120]}") from None
    return made


def _fingerprint(folder: Path) -> str:
    """12 hex digits that change with the weights: a hash of the small files and of the ends of each weights file."""
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", *_OLDER_TOKENIZERS):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_EDGE_BYTES))
            stream.seek(max(size - _EDGE_BYTES, 0))
            digest.update(stream.read())
    return digest.hexdigest()[:12]


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*_SMALL_FILES, *_OLDER_TOKENIZERS, "*.safetensors"]
    options: dict[str, Any] = {"allow_patterns": patterns, "ignore_patterns": ["onnx/*", "original/*"]}
    try:
        # What lies in the local cache is used as it is: a run gives the same weights with and without a network.
        cached = Path(snapshot_download(name, local_files_only=True, **options))
        if (cached / "config.json").is_file() and [*cached.glob("*.safetensors"), *cached.glob("*.bin")]:
            return cached  # a download that was cut off leaves less
    except Exception:  # the hub client raises many kinds; each means that the cache does not have it
        pass
    try:
        folder = Path(snapshot_download(name, etag_timeout=5, **options))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "pytorch_model*.bin*"], etag_timeout=5))
        return folder
    except Exception as error:  # likewise: the model is not to be had
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"teacher.backbone: no folder named {name}, and no model hub gave it: {reason[:120]}"
        ) from None


def _json_or_empty(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}
