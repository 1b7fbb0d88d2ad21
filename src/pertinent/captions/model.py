"""Captions from a Hugging Face image-to-text model: BLIP, GIT, an encoder-decoder such as ViT-GPT2, or a chat model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pertinent.captions.config import CaptionsConfig
from pertinent.captions.endpoint import CHAT_PROMPT
from pertinent.captions.images import ImageError, Picture
from pertinent.errors import ConfigError, ModelError

_EDGE_BYTES = 2**20  # read at each end of a weights file for the fingerprint
_MIN_PICTURES_TO_JUDGE = 8  # of one unit; when the model takes none of so many, the fault is not theirs
_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.safetensors")


class ModelCaptioner:
    """Captions by beam search on this machine. The weights are loaded at the first picture."""

    def __init__(self, config: CaptionsConfig) -> None:
        """Find the model's folder. Raises ModelError where the name cannot be had."""
        self._config = config
        self._folder = find_model(config.model)
        self._fingerprint = _fingerprint(self._folder)
        self._loaded: tuple[Any, Any, str] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is said of an image."""
        return {
            "model": self._fingerprint,
            "prompt": self._config.prompt,
            "max_new_tokens": self._config.max_new_tokens,
            "beams": self._config.beams,
            "precision": self._config.precision,
        }

    def caption(self, pictures: Sequence[Picture]) -> list[str | ImageError]:
        """What the model says of each picture, or why it said nothing.

        A batch that fails is done again picture by picture, so that one picture costs itself alone. Raises ModelError
        where of many pictures the model can take none, or its folder cannot be loaded.
        """
        if self._loaded is None:
            self._loaded = _load(self._folder, self._config)
        found: list[str | ImageError] = []
        for start in range(0, len(pictures), self._config.batch_size):
            batch = pictures[start : start + self._config.batch_size]
            try:
                found += self._generate(batch)
            except Exception:  # out of memory, or a picture that the processor cannot take (one pixel wide, say)
                found += [self._alone(picture) for picture in batch]
        if len(found) >= _MIN_PICTURES_TO_JUDGE and all(isinstance(said, ImageError) for said in found):
            raise ModelError(f"{self._folder}: could caption none of {len(found)} images; the first: {found[0]}")
        return found

    def _alone(self, picture: Picture) -> str | ImageError:
        try:
            return self._generate([picture])[0]
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return ImageError(f"image must be one that the model can take, got {reason[:100]}")

    def _generate(self, pictures: Sequence[Picture]) -> list[str]:
        import torch

        assert self._loaded is not None
        model, processor, device = self._loaded
        prompt, chat = self._config.prompt, _is_chat(processor)
        images = [picture.image for picture in pictures]
        inputs = _chat_inputs(processor, images, prompt or CHAT_PROMPT) if chat else _inputs(processor, images, prompt)
        inputs = {name: _placed(value, device, model.dtype) for name, value in inputs.items()}
        with torch.inference_mode():
            tokens = model.generate(
                **inputs, max_new_tokens=self._config.max_new_tokens, num_beams=self._config.beams, do_sample=False
            )
        if chat:  # a decoder gives its input back
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        texts = [str(text).strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]
        if chat or prompt is None:
            return texts
        # Such a model goes on from the prompt, in the case and spacing of its tokenizer.
        start = processor.tokenizer.decode(processor.tokenizer(prompt)["input_ids"], skip_special_tokens=True).strip()
        return [text.removeprefix(start).strip() for text in texts]


def find_model(name: str) -> Path:
    """A local folder, what the hub's local cache holds, or a download. Raises ModelError in one line."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: expected a Hugging Face model folder with config.json, found none")
        return folder
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ConfigError(
            "caption: expected the training stack for a local model, found no huggingface_hub: pip install"
            " 'pertinent[caption,train]'"
        ) from None
    try:
        # What lies in the local cache is used as it is: a run gives the same captions with and without a network.
        cached = Path(snapshot_download(name, local_files_only=True, allow_patterns=[*_FILES, "*.bin"]))
        if (cached / "config.json").is_file() and [*cached.glob("*.safetensors"), *cached.glob("*.bin")]:
            return cached  # a download that was cut off leaves less
    except Exception:  # the hub client raises many kinds; each means that the cache does not have it
        pass
    try:
        found = Path(snapshot_download(name, allow_patterns=list(_FILES), etag_timeout=5))
        if not list(found.glob("*.safetensors")):
            found = Path(snapshot_download(name, allow_patterns=[*_FILES, "pytorch_model*.bin"], etag_timeout=5))
        return found
    except Exception as error:  # likewise: the model is not to be had
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"model: no folder named {name}, and no model hub gave it: {reason[:120]}") from None


def _load(folder: Path, config: CaptionsConfig) -> tuple[Any, Any, str]:
    """Model in eval mode, processor, device."""
    try:
        import torch
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging
    except ImportError as error:
        raise ConfigError(
            f"caption: expected the training stack for a local model, found no {error.name}: pip install"
            " 'pertinent[caption,train]'"
        ) from None
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        processor = _processor(folder)
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=getattr(torch, config.precision),
            output_loading_info=True,
            trust_remote_code=False,  # left out, it would ask the person at the terminal
        )
    except Exception as error:  # transformers raises many kinds on a folder that it cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder}: cannot load an image-to-text model: {reason[:200]}") from None
    if absent := sorted(report["missing_keys"]):
        # transformers would go on with random weights, and only warn.
        raise ModelError(f"{folder}: {len(absent)} of the model's weights are not in the folder, such as {absent[0]}")
    return model.to(device).eval(), processor, device


def _processor(folder: Path) -> Any:
    """The folder's processor; of an encoder-decoder, which may have none, its two halves."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        processor = _Halves(AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    processor.tokenizer.padding_side = "left"  # what is generated follows the last token
    return processor


class _Halves:
    """An image processor and a tokenizer with a processor's methods."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.batch_decode = tokenizer.batch_decode

    def __call__(self, images: Any, text: Any = None, **options: Any) -> Any:
        found = self.image_processor(images=images, return_tensors="pt")
        if text is not None:
            # The prompt goes to the decoder; generate() takes it from there.
            found["decoder_input_ids"] = self.tokenizer(text, add_special_tokens=False, **options)["input_ids"]
        return found


def _is_chat(processor: Any) -> bool:
    return bool(getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None))


def _inputs(processor: Any, images: Sequence[Any], prompt: str | None) -> dict[str, Any]:
    if prompt is None:
        return dict(processor(images=list(images), return_tensors="pt"))
    return dict(processor(images=list(images), text=[prompt] * len(images), return_tensors="pt", padding=True))


def _chat_inputs(processor: Any, images: Sequence[Any], prompt: str) -> dict[str, Any]:
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    asked = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    texts = [asked] * len(images)
    return dict(processor(images=[[image] for image in images], text=texts, return_tensors="pt", padding=True))


def _placed(value: Any, device: str, dtype: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def _fingerprint(folder: Path) -> str:
    """16 hex digits that change with the model: a hash of its small files and of the ends of each weights file."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in (*_FILES, "*.bin") for file in folder.glob(pattern)}):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_EDGE_BYTES))
            stream.seek(max(size - _EDGE_BYTES, 0))
            digest.update(stream.read())
    return digest.hexdigest()[:16]
