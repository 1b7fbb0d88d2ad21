"""The teacher network: an encoder that reads ``query [SEP] item text`` and a head with one logit a grade."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from pertinent.errors import ModelError
from pertinent.files import read_json, write_json
from pertinent.teacher.backbones import Backbone, load_encoder, load_encoder_folder
from pertinent.teacher.config import TeacherConfig

FORMAT = 1
_PROBE = [("red sofa", "title: Red velvet sofa"), ("диван", "title: Oak table"), ("", "")]


class CrossEncoder(nn.Module):
    """Encoder, pooling and a two-layer head.

    forward: input_ids, attention_mask (B, T) int64; optional target_probs (B, n) float32.
    Returns {"logits": (B, n) float32} and, with targets, "loss": the mean cross-entropy to them.
    Source: arXiv 2410.17152, section 3 (encoder, fully connected layers, one logit a grade).
    """

    def __init__(self, encoder: PreTrainedModel, n_grades: int, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        hidden = encoder.config.hidden_size
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, n_grades))
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, target_probs: Tensor | None = None
    ) -> dict[str, Tensor]:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        # The head is always float32: in half precision a trained head loses grades that lie close.
        with torch.autocast(states.device.type, enabled=False):
            logits = self.head(self._pool(states.float(), attention_mask))
        if target_probs is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, target_probs), "logits": logits}

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "first":
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


@dataclass(frozen=True)
class Teacher:
    """A teacher that can score: the network, its tokenizer, and how its logits become probabilities."""

    model: CrossEncoder
    tokenizer: Tokenizer
    n_grades: int
    max_tokens: int
    max_query_tokens: int
    temperature: float
    pad_id: int
    teacher_id: str  # hash of the weights: names the teacher in a soft label

    def encode(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each pair, cut to the budget: the query first, then what is left for the text."""
        return encode_pairs(self.tokenizer, queries, texts, self.max_tokens, self.max_query_tokens)


def new_network(backbone: Backbone, config: TeacherConfig, n_grades: int, seed: int) -> CrossEncoder:
    """The pretrained encoder with a freshly drawn head."""
    torch.manual_seed(seed)
    encoder = load_encoder(backbone)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    return CrossEncoder(encoder, n_grades, config.pooling)


def load_tokenizer(file: Path) -> Tokenizer:
    """A tokenizers file without truncation or padding of its own."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception for every fault
        raise ModelError(f"{file}: cannot read the tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pad_id_of(tokenizer: Tokenizer, encoder: PreTrainedModel) -> int:
    """The padding token's id. Raises ModelError when the model names none."""
    pad_id = encoder.config.pad_token_id
    if pad_id is None:
        raise ModelError(
            f"{encoder.config.name_or_path or 'encoder'}: expected a pad_token_id in its config, found none"
        )
    return int(pad_id)


def encode_pairs(
    tokenizer: Tokenizer, queries: Sequence[str], texts: Sequence[str], max_tokens: int, max_query_tokens: int
) -> list[list[int]]:
    """Token ids ``[CLS] query [SEP] text [SEP]`` (as the tokenizer's own template has it), at most max_tokens."""
    budget = max_tokens - tokenizer.num_special_tokens_to_add(True)
    distinct_queries, distinct_texts = dict.fromkeys(queries), dict.fromkeys(texts)
    query_of = dict(
        zip(distinct_queries, tokenizer.encode_batch(list(distinct_queries), add_special_tokens=False), strict=True)
    )
    text_of = dict(
        zip(distinct_texts, tokenizer.encode_batch(list(distinct_texts), add_special_tokens=False), strict=True)
    )
    prefix, middle, suffix = _specials(tokenizer)
    query_ids = {query: encoding.ids[: min(max_query_tokens, budget)] for query, encoding in query_of.items()}
    text_ids = {text: encoding.ids for text, encoding in text_of.items()}
    encoded = []
    for query, text in zip(queries, texts, strict=True):
        head = query_ids[query]
        encoded.append([*prefix, *head, *middle, *text_ids[text][: budget - len(head)], *suffix])
    return encoded


def _specials(tokenizer: Tokenizer) -> tuple[list[int], list[int], list[int]]:
    # Encode a probe pair to learn where the template puts its special tokens round the two texts.
    first = tokenizer.encode("a", add_special_tokens=False).ids
    second = tokenizer.encode("b", add_special_tokens=False).ids
    ids = tokenizer.encode("a", "b").ids
    n_special = len(ids) - len(first) - len(second)
    for n_prefix in range(n_special + 1):
        if ids[n_prefix : n_prefix + len(first)] != first:
            continue
        rest = ids[n_prefix + len(first) :]
        for n_middle in range(n_special - n_prefix + 1):
            if rest[n_middle : n_middle + len(second)] == second:
                return ids[:n_prefix], rest[:n_middle], rest[n_middle + len(second) :]
    raise ModelError(f"tokenizer: cannot find its pair template in {ids}")


def pad_batch(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask, both (B, longest) int64."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def save_teacher(model: CrossEncoder, folder: Path, tokenizer_file: Path, settings: dict[str, Any]) -> None:
    """Write encoder, head, tokenizer, settings and a probe batch with its logits (float32)."""
    folder.mkdir(parents=True, exist_ok=True)
    model.encoder.save_pretrained(folder / "encoder")
    save_file(
        {name: value.contiguous() for name, value in model.head.state_dict().items()}, folder / "head.safetensors"
    )
    (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    logits = _probe_logits(model, tokenizer, settings)
    document = {"format": FORMAT, **settings, "probe_logits": logits.tolist(), "weights": _weights_hash(model)}
    write_json(folder / "teacher.json", document)


def load_teacher(folder: Path) -> Teacher:
    """Open a teacher folder and check that its probe batch gives the stored logits to 1e-3.

    Raises ModelError when a file is missing, the format is another version's, or the logits differ.
    """
    if not (folder / "teacher.json").is_file():
        raise ModelError(f"{folder}: expected a teacher folder with teacher.json, found none")
    settings = read_json(folder / "teacher.json")
    if settings.get("format") != FORMAT:
        raise ModelError(f"{folder}/teacher.json: expected format {FORMAT}, found {settings.get('format')}")
    encoder = load_encoder_folder(folder / "encoder")
    model = CrossEncoder(encoder, settings["n_grades"], settings["pooling"])
    try:
        model.head.load_state_dict(load_file(folder / "head.safetensors"))
    except (FileNotFoundError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}/head.safetensors: the trained head is missing or damaged: {error}") from None
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    drift = np.abs(_probe_logits(model, tokenizer, settings) - np.asarray(settings["probe_logits"])).max()
    if not drift < 1e-3:
        raise ModelError(
            f"{folder}: the stored probe's logits are not reproduced: expected a drift under 1e-3, found {drift:.2g}"
        )
    return Teacher(
        model=model.eval(),
        tokenizer=tokenizer,
        n_grades=settings["n_grades"],
        max_tokens=settings["max_tokens"],
        max_query_tokens=settings["max_query_tokens"],
        temperature=settings["temperature"],
        pad_id=pad_id_of(tokenizer, encoder),
        teacher_id=settings["weights"][:16],
    )


def _probe_logits(model: CrossEncoder, tokenizer: Tokenizer, settings: dict[str, Any]) -> NDArray[np.float32]:
    queries, texts = zip(*_PROBE, strict=True)
    rows = encode_pairs(tokenizer, queries, texts, settings["max_tokens"], settings["max_query_tokens"])
    training = model.training
    model.eval()
    with torch.inference_mode():
        ids, mask = pad_batch(rows, pad_id_of(tokenizer, model.encoder))
        logits: NDArray[np.float32] = model(ids, mask)["logits"].numpy()
    model.train(training)
    return logits


def _weights_hash(model: CrossEncoder) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
