from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Gemma3Config, GPT2Config, GPT2Model

from pertinent.errors import ConfigError, ModelError
from pertinent.files import write_json
from pertinent.teacher import backbones
from pertinent.teacher.backbones import (
    Backbone,
    EmbeddingRule,
    architecture_of,
    embedding_rule,
    load_backbone,
    resolve_backbone,
)
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.embed import cosine_scores
from pertinent.teacher.precision import wants_bfloat16
from pertinent.teacher.train import prepare_network


def test_a_local_folder_is_taken_as_it_is(tiny_backbone: Path) -> None:
    backbone = resolve_backbone(str(tiny_backbone))
    assert (backbone.folder, backbone.tokenizer_file) == (tiny_backbone, tiny_backbone / "tokenizer.json")
    encoder = load_backbone(backbone)
    assert encoder.dtype == torch.float32
    assert not encoder.training
    assert encoder.config.hidden_size == 32


def test_half_precision_weights_are_trained_in_float32(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    halves = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(resolve_backbone(str(folder))).dtype == torch.float32


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        *[(name, "encoder") for name in ("bert", "xlm-roberta", "deberta-v2", "modernbert", "electra", "t5", "mt5")],
        *[(name, "decoder") for name in ("llama", "gemma3_text", "qwen3", "mistral", "gpt2")],
    ],
)
def test_causal_language_models_are_decoders(model_type: str, architecture: str) -> None:
    assert architecture_of(model_type) == architecture


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json"])
def test_a_folder_without_a_needed_file_is_refused(tiny_backbone: Path, tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"expected a Hugging Face model folder with {missing}, found none"):
        resolve_backbone(str(folder))


def test_a_folder_without_weights_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model: cannot load a language model: [^\n]+$"):
        load_backbone(resolve_backbone(str(folder)))


def test_weights_of_another_model_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    stored = load_file(folder / "model.safetensors")
    one = next(name for name in stored if name.endswith("query.weight"))
    save_file(
        {f"other.{name}" if name == one else name: value for name, value in stored.items()},
        folder / "model.safetensors",
    )
    with pytest.raises(ModelError, match=r"1 of the model's weights are not in the folder, such as .*query.weight"):
        load_backbone(resolve_backbone(str(folder)))


def test_cut_weights_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"model: cannot load a language model: [^\n]+$"):
        load_backbone(resolve_backbone(str(folder)))


def test_an_encoder_decoder_other_than_t5_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    from transformers import BartConfig, BartModel

    sizes = {"vocab_size": 131, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    BartModel(BartConfig(**sizes, **heads)).save_pretrained(tmp_path)
    shutil.copyfile(tiny_backbone / "tokenizer.json", tmp_path / "tokenizer.json")
    with pytest.raises(ModelError, match="expected a text encoder, T5 or a decoder, found BartModel"):
        load_backbone(resolve_backbone(str(tmp_path)))


def test_the_description_changes_with_the_weights(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    before = resolve_backbone(str(folder)).description
    assert before == resolve_backbone(str(folder)).description
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.bias"
    save_file({**weights, name: weights[name] + 1e-3}, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve_backbone(str(folder)).description != before


def test_the_packaged_encoder_has_no_four_bit_form(tiny_backbone: Path) -> None:
    packaged = Backbone("packaged:multilingual-e5-small", None, tiny_backbone / "tokenizer.json", "stand-in")
    with pytest.raises(ConfigError, match=r"teacher\.tuning: qlora needs a model folder, found packaged"):
        load_backbone(packaged, four_bit=True)


def test_a_name_that_no_hub_gives_is_refused_and_e5_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Path:
        raise ModelError(f"no hub gave {name}")

    stand_in = Backbone("packaged", None, Path("tokenizer.json"), "stand-in")
    monkeypatch.setattr(backbones, "_download", nowhere)
    monkeypatch.setattr(backbones, "_packaged", lambda name: stand_in)
    assert resolve_backbone("intfloat/multilingual-e5-small") is stand_in
    with pytest.raises(ModelError, match="no hub gave someone/some-model"):
        resolve_backbone("someone/some-model")


def test_without_a_hub_the_error_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"teacher\.backbone: no folder named someone/some-model, and no model hub"):
        resolve_backbone("someone/some-model")


def test_e5_is_known_by_its_name_and_others_by_their_files(tmp_path: Path) -> None:
    def rule_of(name: str) -> EmbeddingRule:
        return embedding_rule(Backbone(name, tmp_path, tmp_path / "tokenizer.json", name))

    assert rule_of("intfloat/multilingual-e5-small") == EmbeddingRule("query: ", "passage: ", "mean")
    assert rule_of("someone/made5-model") == EmbeddingRule("", "", "mean")
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "q: ", "document": "d: "}})
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    assert rule_of("someone/some-model") == EmbeddingRule("q: ", "d: ", "first")
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_lasttoken": True})
    assert rule_of("someone/some-model").pooling == "last"


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_embedding_baseline_is_the_cosine_of_mean_states(tiny_folder: Callable[[str], Path], kind: str) -> None:
    backbone = resolve_backbone(str(tiny_folder(kind)))
    queries, texts = ["red sofa", "oak", "red sofa"], ["red sofa", "red velvet armchair table", "oak table"]
    found = cosine_scores(backbone, queries, texts, max_tokens=32)
    tolerance = 2e-2 if wants_bfloat16("auto", "cpu") else 1e-5
    assert found[0] == pytest.approx(1.0, abs=1e-5)
    encoder = load_backbone(backbone)
    tokenizer = Tokenizer.from_file(str(backbone.tokenizer_file))

    def mean_state(text: str) -> torch.Tensor:
        with torch.inference_mode():
            return encoder(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)

    for query, text, score in zip(queries, texts, found, strict=True):
        expected = torch.cosine_similarity(mean_state(query), mean_state(text), dim=0).item()
        assert score == pytest.approx(expected, abs=tolerance)


def test_a_model_that_reads_more_than_text_is_refused(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """The type of Gemma 3's folders from 4B up, which hold a vision model beside the text model."""
    folder = shutil.copytree(tiny_folder("bert"), tmp_path / "both")
    Gemma3Config().save_pretrained(folder)
    with pytest.raises(ModelError, match=r"config\.json: expected a text model, found gemma3, which reads more"):
        load_backbone(resolve_backbone(str(folder)))


def test_a_tokenizer_of_more_words_than_the_weights_is_refused(
    tiny_folder: Callable[[str], Path], config_of: Callable[..., TeacherConfig], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder("bert"), tmp_path / "grown")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = load_backbone(resolve_backbone(str(folder))).get_input_embeddings().num_embeddings
    tokenizer.add_tokens([f"new{k}" for k in range(words)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match=rf"expected a tokenizer of at most {words} tokens, as its weights, found"):
        prepare_network(resolve_backbone(str(folder)), config_of(), 3, 0)


def test_adapters_need_linear_layers(
    tiny_folder: Callable[[str], Path], config_of: Callable[..., TeacherConfig], tmp_path: Path
) -> None:
    """GPT-2's are convolutions of width one."""
    folder = tmp_path / "gpt2"
    GPT2Model(GPT2Config(vocab_size=4096, n_embd=16, n_layer=1, n_head=2, n_positions=64)).save_pretrained(folder)
    shutil.copyfile(tiny_folder("bert") / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"teacher\.tuning: expected full, found lora; gpt2 has no linear layers"):
        prepare_network(resolve_backbone(str(folder)), config_of(tuning="lora"), 3, 0)
