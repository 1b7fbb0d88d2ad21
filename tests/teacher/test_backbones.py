from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from pertinent.errors import ModelError
from pertinent.teacher import backbones
from pertinent.teacher.backbones import load_encoder, resolve_backbone
from pertinent.teacher.embed import cosine_scores
from pertinent.teacher.precision import wants_bfloat16


def test_a_local_folder_is_taken_as_it_is(tiny_backbone: Path) -> None:
    backbone = resolve_backbone(str(tiny_backbone))
    assert (backbone.folder, backbone.tokenizer_file) == (tiny_backbone, tiny_backbone / "tokenizer.json")
    encoder = load_encoder(backbone)
    assert encoder.dtype == torch.float32
    assert not encoder.training
    assert encoder.config.hidden_size == 32


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json"])
def test_a_folder_without_a_needed_file_is_refused(tiny_backbone: Path, tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"expected a Hugging Face model folder with {missing}, found none"):
        resolve_backbone(str(folder))


def test_a_folder_without_weights_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load an encoder"):
        load_encoder(resolve_backbone(str(folder)))


def test_cut_weights_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot load an encoder"):
        load_encoder(resolve_backbone(str(folder)))


def test_a_name_that_no_hub_gives_is_refused_and_e5_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Path:
        raise ModelError(f"no hub gave {name}")

    stand_in = backbones.Backbone("packaged", None, Path("tokenizer.json"), "stand-in")
    monkeypatch.setattr(backbones, "_download", nowhere)
    monkeypatch.setattr(backbones, "_packaged", lambda: stand_in)
    assert resolve_backbone("intfloat/multilingual-e5-small") is stand_in
    with pytest.raises(ModelError, match="no hub gave someone/some-model"):
        resolve_backbone("someone/some-model")


def test_the_embedding_baseline_is_the_cosine_of_mean_states(tiny_backbone: Path) -> None:
    backbone = resolve_backbone(str(tiny_backbone))
    queries, texts = ["red sofa", "oak", "red sofa"], ["red sofa", "red velvet armchair table", "oak table"]
    found = cosine_scores(backbone, queries, texts, max_tokens=32)
    assert found[0] == pytest.approx(1.0, abs=1e-5)
    encoder = load_encoder(backbone)
    tokenizer = Tokenizer.from_file(str(backbone.tokenizer_file))

    def mean_state(text: str) -> torch.Tensor:
        with torch.inference_mode():
            return encoder(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)

    for query, text, score in zip(queries, texts, found, strict=True):
        expected = torch.cosine_similarity(mean_state(query), mean_state(text), dim=0).item()
        assert score == pytest.approx(expected, abs=2e-2 if wants_bfloat16("auto") else 1e-5)
