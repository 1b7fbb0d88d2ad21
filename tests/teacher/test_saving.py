"""A teacher folder as files; that no form of it loses its head is in test_round_trip.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from pertinent.errors import ConfigError, ModelError, PertinentError
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.engines import EngineName, OnnxEngine, TorchEngine
from pertinent.teacher.precision import scoring_tokens
from pertinent.teacher.saving import (
    SETTINGS,
    Trained,
    combine_teachers,
    load_network,
    load_teacher,
    save_ensemble,
    save_teacher,
)

QUERIES = ["red sofa", "oak", "", "12 in lamp"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", ""]


@pytest.fixture(scope="module")
def whole(untrained: Callable[..., Trained], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(untrained(), folder, "# A card\n")
    return folder


@pytest.fixture
def saved(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(whole, tmp_path / "teacher")


def settings_changed(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**document, **changes}))


def test_a_folder_holds_what_its_docstring_says(saved: Path) -> None:
    names = {path.name for path in saved.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "model.safetensors",
        "teacher.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "token_vectors.npy",
    }
    assert (saved / "README.md").read_text() == "# A card\n"
    assert {value.dtype for value in load_file(saved / "model.safetensors").values()} == {torch.float32}
    assert json.loads((saved / "config.json").read_text())["id2label"] == {"0": "L1", "1": "L2", "2": "L3"}


def test_a_saved_teacher_comes_back_with_its_settings(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    made = untrained("llama", head="coral", n_grades=4, template="{query} : {text} easy", max_tokens=24, pooling="mean")
    calibration = Calibration("coral", 1.7, (0.25, 0.0, -0.5))
    changed = Trained(**{**vars(made), "calibration": calibration})
    save_teacher(changed, tmp_path, "")
    teacher = load_teacher(tmp_path)
    (member,) = teacher.members
    assert (teacher.n_grades, member.calibration, member.pad_id, member.batch_tokens) == (4, calibration, 0, 256)
    assert member.pairs.encode(QUERIES, TEXTS) == made.pairs.encode(QUERIES, TEXTS)
    assert isinstance(member.engine, TorchEngine)
    assert (member.engine.network.config.pooling, member.engine.network.config.head) == ("mean", "coral")
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    expected = TorchEngine(made.network, bfloat16=False).logits(rows, 0)
    assert member.engine.logits(rows, 0) == pytest.approx(expected, abs=1e-5)
    assert teacher.score(QUERIES, TEXTS) == pytest.approx(calibration.probabilities(expected), abs=1e-5)


def test_transformers_opens_the_tokenizer_to_the_same_ids(saved: Path, untrained: Callable[..., Trained]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved)
    rows = untrained().pairs.encode(QUERIES, TEXTS).rows
    assert tokenizer(QUERIES, TEXTS)["input_ids"] == rows
    padded = tokenizer(QUERIES, TEXTS, padding=True)["input_ids"]
    assert padded[2] == [*rows[2], *[0] * (max(map(len, rows)) - len(rows[2]))]


def test_the_id_names_the_weights(untrained: Callable[..., Trained], saved: Path, tmp_path: Path) -> None:
    save_teacher(untrained(), tmp_path / "again", "another card")
    save_teacher(untrained(seed=2), tmp_path / "other", "# A card\n")
    found, again, other = (
        load_teacher(folder).teacher_id for folder in (saved, tmp_path / "again", tmp_path / "other")
    )
    assert len(found) == 16
    assert found == again != other


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_teacher_scores_in_the_arithmetic_it_was_trained_in(
    untrained: Callable[..., Trained], tmp_path: Path, precision: str
) -> None:
    made = untrained("llama", precision=precision)
    save_teacher(made, tmp_path, "")
    (member,) = load_teacher(tmp_path).members
    rows = made.pairs.encode(QUERIES, TEXTS).rows
    drift = np.abs(member.engine.logits(rows, 0) - TorchEngine(made.network, bfloat16=False).logits(rows, 0)).max()
    assert (drift > 1e-4) == (precision == "bfloat16")


def test_an_ensembles_probabilities_are_the_mean_of_its_members(
    untrained: Callable[..., Trained], tmp_path: Path
) -> None:
    kinds = [("bert", "softmax"), ("t5", "corn")]
    for k, (kind, head) in enumerate(kinds):
        save_teacher(untrained(kind, head=head, seed=k), tmp_path / f"member-{k}", "")
    save_ensemble(["member-0", "member-1"], tmp_path)
    ensemble = load_teacher(tmp_path)
    apart = [load_teacher(tmp_path / f"member-{k}") for k in range(2)]
    probs = [teacher.score(QUERIES, TEXTS) for teacher in apart]
    assert np.abs(probs[0] - probs[1]).max() > 0.1
    assert ensemble.score(QUERIES, TEXTS) == pytest.approx((probs[0] + probs[1]) / 2, abs=1e-6)
    assert len({ensemble.teacher_id, *(teacher.teacher_id for teacher in apart)}) == 3
    # In ONNX as well.
    assert load_teacher(tmp_path, engine="onnx").score(QUERIES, TEXTS) == pytest.approx(
        ensemble.score(QUERIES, TEXTS), abs=1e-4
    )


def test_teachers_trained_apart_are_combined_into_one(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    kinds = [("bert", "softmax"), ("llama", "corn")]
    folders = [tmp_path / kind for kind, _ in kinds]
    for (kind, head), folder in zip(kinds, folders, strict=True):
        save_teacher(untrained(kind, head=head), folder, "")
        np.save(folder / "token_vectors.npy", np.full((3, 2), len(kind), dtype=np.float16))
    found = combine_teachers(folders, tmp_path / "both")
    teacher = load_teacher(tmp_path / "both")
    assert teacher.teacher_id == found
    mean = sum(load_teacher(folder).score(QUERIES, TEXTS) for folder in folders) / 2
    assert teacher.score(QUERIES, TEXTS) == pytest.approx(mean, abs=1e-6)
    assert (np.load(tmp_path / "both" / "token_vectors.npy") == 4).all()
    with pytest.raises(
        ConfigError, match=r"both: expected a folder that is empty or not there yet, found one with files"
    ):
        combine_teachers(folders, tmp_path / "both")
    with pytest.raises(ModelError, match=r"both: expected a teacher of one model, found an ensemble"):
        combine_teachers([folders[0], tmp_path / "both"], tmp_path / "three")
    (folders[1] / "token_vectors.npy").unlink()
    with pytest.raises(ModelError, match=r"llama: expected a teacher folder with token_vectors\.npy, found none"):
        combine_teachers(folders, tmp_path / "two")
    with pytest.raises(ConfigError, match=r"expected two teachers or more, found 1"):
        combine_teachers(folders[:1], tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "both", "llama"]


def test_teachers_on_unlike_scales_are_not_combined(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    folders = [tmp_path / str(n_grades) for n_grades in (3, 5)]
    for n_grades, folder in zip((3, 5), folders, strict=True):
        save_teacher(untrained(n_grades=n_grades), folder, "")
    with pytest.raises(ModelError, match=r"expected members on one scale, found \[3, 5\] grades"):
        combine_teachers(folders, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_the_networks_own_probabilities_are_those_without_calibration(
    untrained: Callable[..., Trained], tmp_path: Path
) -> None:
    made = untrained()
    save_teacher(replace(made, calibration=Calibration("softmax", 2.0, (0.5, 0.0, -0.5))), tmp_path, "")
    teacher = load_teacher(tmp_path)
    logits = TorchEngine(made.network, bfloat16=False).logits(made.pairs.encode(QUERIES, TEXTS).rows, 0)
    expected = Calibration.none("softmax", 3).probabilities(logits)
    assert teacher.uncalibrated().score(QUERIES, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert np.abs(teacher.score(QUERIES, TEXTS) - expected).max() > 0.05


def test_members_on_unlike_scales_are_refused(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    for k, n_grades in enumerate((3, 5)):
        save_teacher(untrained(n_grades=n_grades), tmp_path / f"member-{k}", "")
    save_ensemble(["member-0", "member-1"], tmp_path)
    with pytest.raises(ModelError, match=r"expected members on one scale, found \[3, 5\] grades"):
        load_teacher(tmp_path)


def test_an_ensemble_that_lost_a_member_is_refused(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    for k in range(2):
        save_teacher(untrained(seed=k), tmp_path / f"member-{k}", "")
    save_ensemble(["member-0", "member-1"], tmp_path)
    shutil.rmtree(tmp_path / "member-1")
    with pytest.raises(ModelError, match=r"member-1: expected a teacher folder with teacher\.json, found none"):
        load_teacher(tmp_path)


def test_changed_weights_are_refused_even_where_the_probe_does_not_read_them(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][-1] += 1.0
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"teacher: expected the saved weights, [0-9a-f]{12}, found others"):
        load_teacher(saved)


def test_another_calibration_is_another_teacher(saved: Path) -> None:
    before = load_teacher(saved).teacher_id
    settings_changed(saved, calibration=Calibration("softmax", 2.0, (0.0, 0.0, 0.0)).to_dict())
    assert load_teacher(saved).teacher_id != before


@pytest.mark.parametrize("name", ["pad_id", "weights", "max_tokens"])
def test_a_setting_that_is_missing_is_named(saved: Path, name: str) -> None:
    document = json.loads((saved / SETTINGS).read_text())
    del document[name]
    (saved / SETTINGS).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=rf"teacher\.json: expected .*, found no {name}"):
        load_teacher(saved)


def test_a_damaged_calibration_is_told_with_its_file(saved: Path) -> None:
    settings_changed(saved, calibration={"kind": "softmax"})
    with pytest.raises(ModelError, match=r"teacher\.json: calibration: expected kind, temperature and shifts"):
        load_teacher(saved)


@pytest.mark.parametrize("engine", ["onnx", "onnx_int8"])
def test_an_export_of_another_network_is_refused(
    untrained: Callable[..., Trained], saved: Path, tmp_path: Path, engine: EngineName
) -> None:
    save_teacher(untrained(seed=2), tmp_path / "other", "")
    for folder in (saved, tmp_path / "other"):
        load_teacher(folder, engine=engine)
    (file,) = (saved / "onnx").glob("*.onnx")
    shutil.copyfile(tmp_path / "other" / "onnx" / file.name, file)
    with pytest.raises(ModelError, match=rf"{file.name}: expected the export of this teacher's weights, found another"):
        load_teacher(saved, engine=engine)


def test_a_folder_that_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a teacher folder with teacher\.json, found none"):
        load_teacher(tmp_path)


@pytest.mark.parametrize("found", [1, 99, None])
def test_a_teacher_of_another_format_is_refused(saved: Path, found: int | None) -> None:
    settings_changed(saved, format=found)
    with pytest.raises(ModelError, match=rf"teacher\.json: expected format 2, found {found}; train the teacher again"):
        load_teacher(saved)


def test_a_teacher_without_its_weights_is_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"expected a model folder with model\.safetensors, found none"):
        load_teacher(saved)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_teacher_without_another_file_is_refused_in_one_line(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(PertinentError, match=r"^[^\n]+$"):
        load_teacher(saved)


def test_a_cut_file_of_weights_is_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"cannot load the network: [^\n]+$"):
        load_network(saved)


def test_weights_of_another_shape_are_refused(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    weights["head.2.weight"] = weights["head.2.weight"][:2].contiguous()
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"cannot load the network: [^\n]+$"):
        load_network(saved)


@pytest.mark.parametrize(
    "changes", [{"pad_id": 7, "max_tokens": 8}, {"probe_logits": [[0.0] * 3] * 3}, {"max_query_tokens": 1}]
)
def test_settings_that_give_other_logits_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    settings_changed(saved, **changes)
    with pytest.raises(
        ModelError, match=r"the stored probe's logits are not reproduced: expected a drift under 0\.001"
    ):
        load_teacher(saved)


def test_another_tokenizer_is_refused(saved: Path, tiny_folder: Callable[[str], Path]) -> None:
    shutil.copyfile(tiny_folder("t5") / "tokenizer.json", saved / "tokenizer.json")
    with pytest.raises(ModelError, match="the stored probe's logits are not reproduced"):
        load_teacher(saved)


def test_a_damaged_calibration_is_refused(saved: Path) -> None:
    settings_changed(saved, calibration={"kind": "softmax", "temperature": -1.0, "shifts": [0.0] * 3})
    with pytest.raises(ModelError, match="expected a temperature above 0"):
        load_teacher(saved)


def test_an_onnx_form_is_made_once(saved: Path) -> None:
    first = load_teacher(saved, engine="onnx")
    assert isinstance(first.members[0].engine, OnnxEngine)
    made = (saved / "onnx" / "model.onnx").stat().st_mtime_ns
    load_teacher(saved, engine="onnx")
    assert (saved / "onnx" / "model.onnx").stat().st_mtime_ns == made
    assert first.score(QUERIES, TEXTS) == pytest.approx(load_teacher(saved).score(QUERIES, TEXTS), abs=1e-4)


def test_a_new_teacher_in_a_folder_leaves_no_form_of_the_old_one(
    untrained: Callable[..., Trained], tmp_path: Path
) -> None:
    save_teacher(untrained(tuning="lora"), tmp_path, "")
    old = load_teacher(tmp_path, engine="onnx").score(QUERIES, TEXTS)
    save_teacher(untrained(seed=2), tmp_path, "")
    assert not (tmp_path / "adapter").exists()
    new = load_teacher(tmp_path).score(QUERIES, TEXTS)
    assert np.abs(new - old).max() > 0.1
    assert load_teacher(tmp_path, engine="onnx").score(QUERIES, TEXTS) == pytest.approx(new, abs=1e-4)


def test_a_batch_is_as_large_as_the_device_likes_where_none_is_told(
    untrained: Callable[..., Trained], tmp_path: Path
) -> None:
    save_teacher(untrained(score_batch_tokens=None), tmp_path, "")
    assert load_teacher(tmp_path, device="cpu").members[0].batch_tokens == scoring_tokens(None, "cpu") == 1024
    assert scoring_tokens(None, "cuda") == 16_384
    assert scoring_tokens(96, "cuda") == 96
