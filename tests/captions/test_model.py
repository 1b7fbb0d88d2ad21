from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from pertinent.captions.config import CaptionsConfig
from pertinent.captions.images import ImageError, Picture
from pertinent.captions.model import ModelCaptioner, find_model
from pertinent.errors import ConfigError, ModelError

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 10), (5, 5, 5), (250, 250, 250)]
PICTURES = [Picture(f"{k:064x}", Image.new("RGB", (40, 30 + k), colour)) for k, colour in enumerate(COLOURS)]


def config(folder: Path, **changes: Any) -> CaptionsConfig:
    return CaptionsConfig(model=str(folder), **{"max_new_tokens": 6, "batch_size": 4, **changes})


def test_captions_are_those_of_the_models_own_generate(tiny_blip: Path) -> None:
    said = ModelCaptioner(config(tiny_blip)).caption(PICTURES)
    model = BlipForConditionalGeneration.from_pretrained(tiny_blip).eval()
    processor = BlipProcessor.from_pretrained(tiny_blip)
    for picture, text in zip(PICTURES, said, strict=True):
        inputs = processor(images=picture.image, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=6, num_beams=3, do_sample=False)
        assert text == processor.decode(tokens[0], skip_special_tokens=True).strip()
    assert len(set(map(str, said))) > 1  # the images decide
    assert not any("[" in str(text) for text in said)


def test_a_prompt_goes_before_and_is_taken_off(tiny_blip: Path) -> None:
    made = ModelCaptioner(config(tiny_blip, prompt="A picture of the"))
    said = made.caption(PICTURES[:2])
    assert not any(str(text).startswith("a picture") for text in said)
    assert said != ModelCaptioner(config(tiny_blip)).caption(PICTURES[:2])


def test_one_picture_that_the_model_cannot_take_costs_itself_alone(
    tiny_blip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelCaptioner(config(tiny_blip)).caption(PICTURES)
    real = ModelCaptioner._generate

    def generate(self: ModelCaptioner, pictures: Any) -> Any:
        if any(picture is PICTURES[1] for picture in pictures):
            raise RuntimeError("out of memory\nand so on")
        return real(self, pictures)

    monkeypatch.setattr(ModelCaptioner, "_generate", generate)
    said = ModelCaptioner(config(tiny_blip)).caption(PICTURES)
    assert isinstance(said[1], ImageError)
    assert str(said[1]) == "image must be one that the model can take, got out of memory"
    assert [*said[:1], *said[2:]] == [*whole[:1], *whole[2:]]


def test_a_model_that_can_take_no_picture_ends_the_stage(tiny_blip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*arguments: Any) -> Any:
        raise TypeError("unexpected keyword")

    monkeypatch.setattr(ModelCaptioner, "_generate", generate)
    found = "image must be one that the model can take, got unexpected keyword"
    with pytest.raises(ModelError, match=f"could caption none of 12 images; the first: {found}"):
        ModelCaptioner(config(tiny_blip)).caption(PICTURES * 2)
    assert len(ModelCaptioner(config(tiny_blip)).caption(PICTURES)) == 6  # of a few nothing can be told


def test_settings_tell_models_and_prompts_apart(tiny_blip: Path, tmp_path: Path) -> None:
    settings = ModelCaptioner(config(tiny_blip)).settings
    assert settings == ModelCaptioner(config(tiny_blip, batch_size=2)).settings
    for change in ({"prompt": "a"}, {"beams": 1}, {"max_new_tokens": 7}, {"precision": "bfloat16"}):
        assert ModelCaptioner(config(tiny_blip, **change)).settings != settings
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_blip.iterdir():
        content = file.read_bytes()
        (other / file.name).write_bytes(content[:-1] + b"\1" if file.suffix == ".safetensors" else content)
    assert ModelCaptioner(config(other)).settings["model"] != settings["model"]


def test_a_chat_model_is_asked_through_its_template(tiny_llava: Path) -> None:
    made = ModelCaptioner(config(tiny_llava))
    said = made.caption(PICTURES)
    assert len(said) == 6
    assert all(isinstance(text, str) for text in said)
    assert not any("describe" in str(text) for text in said)  # only what follows the question
    assert said == [made.caption([picture])[0] for picture in PICTURES]  # padding changes nothing


def test_an_encoder_decoder_without_a_processor_of_its_own(tiny_vit_gpt2: Path) -> None:
    made = ModelCaptioner(config(tiny_vit_gpt2))
    said = made.caption(PICTURES)
    assert all(isinstance(text, str) for text in said), said
    assert said == [made.caption([picture])[0] for picture in PICTURES]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/no-such-model", r"^model: no folder named nobody/no-such-model, and no model hub gave it: "),
        ("not a name!", r"^model: no folder named not a name!, and no model hub gave it: "),
    ],
)
def test_a_name_that_cannot_be_had_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        find_model(name)
    assert "\n" not in str(error.value)


def test_without_the_training_stack_it_is_named(tiny_blip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="expected the training stack for a local model, found no transformers"):
        ModelCaptioner(config(tiny_blip)).caption(PICTURES[:1])


def test_folders_that_are_no_captioner(tmp_path: Path, tiny_blip: Path, tiny_backbone: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a Hugging Face model folder with config.json, found none"):
        find_model(str(tmp_path))
    with pytest.raises(ModelError, match="cannot load an image-to-text model: ") as error:
        ModelCaptioner(config(tiny_backbone)).caption(PICTURES[:1])
    assert "\n" not in str(error.value)
    for file in tiny_blip.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match="cannot load an image-to-text model: "):
        ModelCaptioner(config(tmp_path)).caption(PICTURES[:1])


def test_weights_that_are_absent_are_not_made_up(tmp_path: Path, tiny_blip: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in tiny_blip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("vision_model.post_layernorm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 of the model's weights are not in the folder, such as vision_model.post_layernorm.weight"
    ):
        ModelCaptioner(config(tmp_path)).caption(PICTURES[:1])
