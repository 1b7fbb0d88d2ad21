from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pertinent.teacher.adapters import load_adapters, merged
from pertinent.teacher.backbones import load_backbone, resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.pairs import pad_batch
from pertinent.teacher.saving import Trained
from pertinent.teacher.train import new_network

KINDS = ["bert", "xlm-roberta", "deberta-v2", "modernbert", "t5", "llama"]
ROWS = [[2, 5, 9, 17, 3], [2, 30, 3], [2, 8, 3, 44, 45, 46, 47, 3]]
TARGETS = torch.eye(3)
with_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="4-bit weights need bitsandbytes"
)


def logits_of(network: CrossEncoder) -> NDArray[np.float32]:
    return TorchEngine(network, bfloat16=False).logits(ROWS, 0)


def base_weights(network: CrossEncoder) -> dict[str, torch.Tensor]:
    """What adapters leave as it was."""
    weights = {name: value.detach().clone() for name, value in network.named_parameters() if not value.requires_grad}
    assert any("base_layer.weight" in name for name in weights)
    return weights


def gradients(made: Trained) -> dict[str, torch.Tensor]:
    """Of one batch, by the name of the parameter."""
    assert made.adapters is not None
    made.adapters.train()
    made.adapters.zero_grad()
    ids, mask = pad_batch(ROWS, made.pad_id)
    made.adapters(input_ids=ids, attention_mask=mask, target_probs=TARGETS).loss.backward()
    return {name: p.grad.clone() for name, p in made.adapters.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_network_gives_the_logits_of_the_adapters(untrained: Callable[..., Trained], kind: str) -> None:
    network = untrained(kind, tuning="lora").network
    plain = merged(network)
    assert plain.state_dict().keys() == CrossEncoder(network.config).state_dict().keys()
    assert np.ptp(logits_of(network), axis=0).min() > 0.1
    assert logits_of(plain) == pytest.approx(logits_of(network), abs=1e-4)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_merged_network_shares_no_memory_with_the_one_it_came_from(
    untrained: Callable[..., Trained], kind: str
) -> None:
    network = untrained(kind, tuning="lora").network
    plain = merged(network)
    assert {value.device.type for value in [*plain.parameters(), *plain.buffers()]} == {"cpu"}
    own = {value.data_ptr() for value in network.state_dict().values()}
    assert not [name for name, value in plain.state_dict().items() if value.data_ptr() in own]
    before = logits_of(plain)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert (logits_of(plain) == before).all()
    words = plain.get_input_embeddings().weight
    assert sum(parameter is words for parameter in plain.parameters()) == 1  # tied where they were


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_come_back_on_the_same_base(
    untrained: Callable[..., Trained],
    tiny_folder: Callable[[str], Path],
    config_of: Callable[..., TeacherConfig],
    tmp_path: Path,
    kind: str,
) -> None:
    made = untrained(kind, tuning="lora")
    assert made.adapters is not None
    made.adapters.save_pretrained(str(tmp_path))
    base = new_network(resolve_backbone(str(tiny_folder(kind))), config_of(tuning="lora"), 3, seed=9)
    assert np.abs(logits_of(base) - logits_of(made.network)).max() > 0.1
    assert logits_of(load_adapters(base, tmp_path)) == pytest.approx(logits_of(made.network), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_layer_of_the_language_model_has_an_adapter(
    untrained: Callable[..., Trained], tiny_folder: Callable[[str], Path], kind: str
) -> None:
    backbone = load_backbone(resolve_backbone(str(tiny_folder(kind))))
    linear = {name for name, module in backbone.named_modules() if isinstance(module, torch.nn.Linear)}
    network = untrained(kind, tuning="lora", lora={"rank": 3}).network
    found = {name for name, module in network.encoder.named_modules() if hasattr(module, "lora_A")}
    assert found == linear
    assert {p.shape[0] for name, p in network.named_parameters() if ".lora_A." in name} == {3}


def test_the_adapters_and_the_whole_head_learn_and_nothing_else(untrained: Callable[..., Trained]) -> None:
    made = untrained("t5", tuning="lora", head="coral")
    found = gradients(made)
    wanted = {name for name, p in made.network.named_parameters() if p.requires_grad}
    assert {name.removeprefix("base_model.model.") for name in found} == wanted
    assert all(".lora_" in name or name.startswith("head.modules_to_save.") for name in wanted)
    head = {name.removeprefix("head.modules_to_save.default.") for name in wanted if name.startswith("head.")}
    assert head == {"0.weight", "0.bias", "2.weight", "2.bias", "3.first", "3.steps"}


def test_new_adapters_change_nothing(
    tiny_backbone: Path, config_of: Callable[..., TeacherConfig], untrained: Callable[..., Trained]
) -> None:
    made = untrained(tuning="lora")
    with torch.no_grad():
        for name, parameter in made.network.named_parameters():
            if ".lora_B." in name:
                parameter.zero_()  # as peft draws them
    plain = new_network(resolve_backbone(str(tiny_backbone)), config_of(), 3, seed=1)
    plain.head.load_state_dict(merged(made.network).head.state_dict())
    assert logits_of(made.network) == pytest.approx(logits_of(plain), abs=1e-5)


def test_alpha_scales_what_an_adapter_adds(untrained: Callable[..., Trained]) -> None:
    name = "encoder.encoder.layer.0.output.dense.weight"
    once, twice = (
        merged(untrained(tuning="lora", lora={"rank": 4, "alpha": alpha}).network).state_dict()[name]
        for alpha in (8, 16)
    )
    none = untrained().network.state_dict()[name]
    assert torch.allclose(twice - none, 2 * (once - none), atol=1e-5)
    assert (once - none).abs().max() > 0.1


@with_bitsandbytes
def test_a_four_bit_network_merges_into_its_dequantised_weights(untrained: Callable[..., Trained]) -> None:
    """In float32 the merged network gives its logits to 1e-4; bitsandbytes' bfloat16 rounds them by a hundredth."""
    network = untrained("llama-64", tuning="qlora").network
    rounded = logits_of(network)
    plain = merged(network)
    assert {value.dtype for value in plain.state_dict().values()} == {torch.float32}
    for module in network.modules():
        if hasattr(module, "compute_dtype"):
            assert module.compute_dtype == torch.bfloat16
            module.compute_dtype = torch.float32
    exact = logits_of(network)
    assert np.ptp(exact, axis=0).min() > 0.3
    assert logits_of(plain) == pytest.approx(exact, abs=1e-4)
    assert 1e-4 < np.abs(rounded - exact).max() < 0.02 * np.ptp(exact)


@with_bitsandbytes
def test_four_bit_weights_take_half_a_byte_and_stay_near_the_ones_they_came_from(
    untrained: Callable[..., Trained], tiny_folder: Callable[[str], Path]
) -> None:
    network = untrained("llama-64", tuning="qlora").network
    layer = network.encoder.layers[0].mlp.down_proj
    original = load_file(tiny_folder("llama-64") / "model.safetensors")["model.layers.0.mlp.down_proj.weight"]
    packed = layer.base_layer.weight
    assert (packed.dtype, packed.numel()) == (torch.uint8, original.numel() // 2)
    assert packed.quant_state.quant_type == "nf4"
    delta = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    dense = merged(network).state_dict()["encoder.layers.0.mlp.down_proj.weight"] - delta
    correlation = np.corrcoef(dense.detach().flatten(), original.flatten())[0, 1]
    assert 0.98 < correlation < 0.9999


@with_bitsandbytes
def test_scoring_leaves_a_four_bit_networks_gradients_and_weights_as_they_were(
    untrained: Callable[..., Trained],
) -> None:
    """bitsandbytes would repack a layer that has scored on a processor with AVX512-BF16, and then pass no gradient."""
    made = untrained("llama-64", tuning="qlora")
    before, weights = gradients(made), base_weights(made.network)
    logits = logits_of(made.network)
    dense = merged(made.network).state_dict()
    after = gradients(made)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(value, weights[name]) for name, value in base_weights(made.network).items())
    made.network.state_dict()  # as a checkpoint asks for it
    assert (logits_of(made.network) == logits).all()
    assert all(torch.equal(value, dense[name]) for name, value in merged(made.network).state_dict().items())
