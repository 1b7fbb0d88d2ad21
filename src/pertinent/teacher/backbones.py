"""Where a teacher's encoder comes from: a local folder, a model hub, or the packages of `packaged.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pertinent.errors import ConfigError, ModelError
from pertinent.files import read_json
from pertinent.progress import say
from pertinent.teacher import packaged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKAGED_PREFIX = "packaged:"


@dataclass(frozen=True)
class Backbone:
    """A resolved encoder: what to load, and one line that says exactly which weights these are."""

    name: str
    folder: Path | None  # None: the packaged weights
    tokenizer_file: Path
    description: str


def resolve_backbone(name: str) -> Backbone:
    """Find an encoder by name: ``packaged:NAME``, a local folder, the hub's local cache, the hub.

    multilingual-e5-small falls back to the packaged weights when no hub answers, and says so on stderr; the
    manifest records which weights were used. Raises ModelError where nothing was found.
    """
    if name.startswith(PACKAGED_PREFIX):
        if name.removeprefix(PACKAGED_PREFIX) != packaged.PACKAGED_E5:
            raise ConfigError(f"teacher.backbone: expected {PACKAGED_PREFIX}{packaged.PACKAGED_E5}, found {name}")
        return _packaged()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(name, folder)
    try:
        return _from_folder(name, _download(name))
    except ModelError as error:
        if name.rpartition("/")[2] != packaged.PACKAGED_E5:
            raise
        backbone = _packaged()
        say(f"teacher: {error}; using {backbone.description}")
        return backbone


def load_encoder(backbone: Backbone) -> PreTrainedModel:
    """The encoder in float32 and eval mode. Encoder-only and encoder-decoder models give their encoder."""
    return packaged.load_packaged_e5() if backbone.folder is None else load_encoder_folder(backbone.folder)


def load_encoder_folder(folder: Path) -> PreTrainedModel:
    """The encoder of a Hugging Face folder, in float32 and eval mode. Raises ModelError when it cannot be loaded."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    # A BERT-like model would otherwise draw a random pooler, which nothing here reads.
    kind = read_json(folder / "config.json").get("model_type", "")
    options = {"add_pooling_layer": False} if kind in {"bert", "roberta", "xlm-roberta"} else {}
    try:
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot load an encoder: {str(error).splitlines()[0]}") from None
    if not hasattr(model.get_input_embeddings(), "weight"):
        raise ModelError(f"{folder}: expected a text encoder, found {type(model).__name__}")
    return (model.get_encoder() if model.config.is_encoder_decoder else model).eval()


def _packaged() -> Backbone:
    packaged.packaged_e5_folder()  # raises, naming the package, when it is absent
    tokenizer_file = packaged.packaged_tokenizer_file()
    return Backbone(PACKAGED_PREFIX + packaged.PACKAGED_E5, None, tokenizer_file, packaged.describe_packaged_e5())


def _from_folder(name: str, folder: Path) -> Backbone:
    tokenizer_file = folder / "tokenizer.json"
    for needed in (folder / "config.json", tokenizer_file):
        if not needed.is_file():
            raise ModelError(f"{folder}: expected a Hugging Face model folder with {needed.name}, found none")
    return Backbone(name, folder, tokenizer_file, f"{name} from {folder.name}")


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["config.json", "tokenizer.json", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["onnx/*"], etag_timeout=5))
    except Exception as error:  # the hub client raises many kinds; each means that the model is not to be had
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"teacher.backbone: no folder named {name}, and no model hub gave it: {reason[:120]}"
        ) from None
