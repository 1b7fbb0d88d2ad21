from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Tiny models are slower on two threads than on one; also for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# No test reaches for the network, nor a library on its behalf.
os.environ["HF_HUB_OFFLINE"] = "1"

import orjson
import pytest
import yaml

from faulty_server import Server, faulty_server

COLOURS = ("red", "blue", "green")
MATERIALS = ("oak", "velvet", "leather", "cotton")
THINGS = ("sofa", "chair", "table", "lamp", "rug", "dress", "coat", "shirt")
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


if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-,;!'\"/"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys([*TINY_WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)])]
# Where a kind's tokenizer puts [CLS] and [SEP]: round one text, round two.
TEMPLATES = {
    "t5": ("$A [SEP]", "$A [SEP] $B [SEP]"),
    "llama": ("[CLS] $A", "[CLS] $A [CLS] $B"),
    "xlm-roberta": ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
    "bert-segments": ("[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"),
    "deberta-v2": ("[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"),
}
BERT_TEMPLATE = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")  # of a BERT pretrained with zeros, as multilingual-e5


def tiny_tokenizer(kind: str) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    single, pair = TEMPLATES.get(kind, BERT_TEMPLATE)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def tiny_model(kind: str) -> PreTrainedModel:
    """Two layers of random weights. Llama names no padding token, as its 8B model does not."""
    import transformers as hf

    sizes: dict[str, Any] = {"vocab_size": len(PIECES), "hidden_size": 32, "intermediate_size": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}
    if kind == "bert":
        return hf.BertModel(hf.BertConfig(**sizes), add_pooling_layer=False)
    if kind == "bert-segments":
        model = hf.BertModel(hf.BertConfig(**sizes), add_pooling_layer=False)
        model.embeddings.token_type_embeddings.weight.data.normal_(std=0.5)  # type ids must tell in the states
        return model
    sizes["initializer_range"] = 0.2  # with the usual 0.02, states of two layers hardly depend on what is read
    if kind == "xlm-roberta":  # its positions begin after that of padding
        sizes |= {"pad_token_id": 1, "max_position_embeddings": 130}
        return hf.XLMRobertaModel(hf.XLMRobertaConfig(**sizes), add_pooling_layer=False)
    if kind == "deberta-v2":
        kinds = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
        shared = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
        return hf.DebertaV2Model(hf.DebertaV2Config(**sizes, **kinds, **shared, type_vocab_size=0))
    if kind == "modernbert":
        special = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        return hf.ModernBertModel(hf.ModernBertConfig(**sizes, **special, local_attention=8))
    if kind == "t5":
        sizes = {"vocab_size": len(PIECES), "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
        gated = {
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "initializer_factor": 2.0,
        }
        return hf.T5ForConditionalGeneration(hf.T5Config(**sizes, **gated, decoder_start_token_id=0, eos_token_id=3))
    if kind in ("llama", "llama-64"):
        width = {"hidden_size": 64, "intermediate_size": 128} if kind == "llama-64" else {}  # 4-bit blocks hold 64
        rest = {"num_key_value_heads": 1, "pad_token_id": None, "bos_token_id": 2, "eos_token_id": 3}
        return hf.LlamaForCausalLM(hf.LlamaConfig(**sizes | width | rest))
    if kind == "qwen3-64":
        width = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
        rest = {"num_key_value_heads": 1, "pad_token_id": None, "bos_token_id": 2, "eos_token_id": 3}
        return hf.Qwen3ForCausalLM(hf.Qwen3Config(**sizes | width | rest))
    raise ValueError(kind)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes Hugging Face folders of tiny random models with a word-piece tokenizer: real code, no download."""
    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            import torch

            folder = tmp_path_factory.mktemp(f"tiny_{kind}")
            tiny_tokenizer(kind.partition("-64")[0]).save(str(folder / "tokenizer.json"))
            torch.manual_seed(0)
            tiny_model(kind).save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return folder_of


@pytest.fixture(scope="session")
def tiny_backbone(tiny_folder: Callable[[str], Path]) -> Path:
    """The folder of a tiny BERT."""
    return tiny_folder("bert")


@dataclass(frozen=True)
class FinishedRun:
    """A small run that is done: its config file, its folder, and what run_pipeline returned. For reading only."""

    config: Path
    folder: Path
    outcome: dict[str, Any]


@pytest.fixture
def settings(tmp_path: Path, tiny_backbone: Path) -> Callable[..., dict[str, Any]]:
    """Makes the settings of a small run; a section given by name replaces the small run's own."""
    return partial(small_config, tmp_path, tiny_backbone)


@pytest.fixture
def small_run(tmp_path: Path, tiny_backbone: Path) -> Path:
    """A config file of a run on the small data set with a tiny random teacher."""
    return write_small_run(tmp_path, tiny_backbone)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> FinishedRun:
    """The run of ``small_run``, done once for every test that only reads it."""
    from pertinent.pipeline import load_run_config, run_pipeline

    config = write_small_run(tmp_path_factory.mktemp("finished"), tiny_backbone)
    outcome = run_pipeline(load_run_config(config))
    return FinishedRun(config, Path(outcome["run"]), outcome)


def write_small_run(folder: Path, backbone: Path) -> Path:
    write_small_dataset(folder / "source")
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(small_config(folder, backbone)), encoding="utf-8")
    return file


def write_small_dataset(folder: Path) -> None:
    """96 items and 168 queries whose grades follow from shared words: 0 another thing, 2 the thing, 4 with its colour."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [
        {"item_id": f"{colour}-{material}-{thing}", "title": f"{colour} {thing}", "description": f"{material} {thing}"}
        for colour in COLOURS
        for material in MATERIALS
        for thing in THINGS
    ]
    queries = [(f"{c} {t}", c, t) for c in COLOURS for t in THINGS]
    queries += [(f"{m} {t} modern", "", t) for m in MATERIALS for t in THINGS]
    queries = [
        (f"{query}{size}", colour, thing) for size in ("", " large", " small") for query, colour, thing in queries
    ]
    judgments = []
    for q, (query, colour, thing) in enumerate(queries):
        for k in range(8):
            item = items[(q * 11 + k * 13) % len(items)] if k % 2 else items[(q * 7 + k * 8 + THINGS.index(thing)) % 96]
            same = item["item_id"].endswith(thing)
            grade = (4 if colour and item["item_id"].startswith(colour) else 2) if same else 0
            judgments.append({"query": query, "item_id": item["item_id"], "grade": grade})
    for name, rows in (("items", items), ("judgments", judgments)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def small_config(folder: Path, backbone: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "output": str(folder / "runs"),
        "data": {"reader": "folder", "path": str(folder / "source"), "languages": ["en"], **sections.pop("data", {})},
        "text": {"fields": [{"name": "title", "tokens": 12}, {"name": "description", "tokens": 12}], "max_tokens": 32},
        "teacher": {
            "backbone": str(backbone),
            "max_tokens": 48,
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 0.003,
            "checkpoint_steps": 5,
            "precision": "float32",
        },
        "labels": {"pool_per_query": 4, "pool_depth": 20, "unit_pairs": 64},
        "student": {"epochs": 12, "patience": 12, "batch_size": 64, "dimensions": 8, "hidden": [32], "probe_pairs": 40},
        "evaluation": {"resamples": 50},
        **sections,
    }


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of files and chat completions on 127.0.0.1, with faults to inject."""
    with faulty_server() as state:
        yield state
