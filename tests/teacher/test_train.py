from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from pertinent.errors import ModelError
from pertinent.files import read_json
from pertinent.teacher import train as training
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import load_teacher, new_network
from pertinent.teacher.train import (
    _depth,
    _keep_complete,
    _LengthGrouped,
    _parameter_groups,
    _targets,
    _training_rows,
    train_teacher,
)
from pertinent.types import StageResult

# 48 training rows: 6 steps an epoch.
CONFIG = TeacherConfig(
    max_tokens=32,
    max_query_tokens=8,
    epochs=3,
    batch_size=8,
    learning_rate=3e-3,
    precision="float32",
    checkpoint_steps=4,
)
Stages = tuple[Path, Path]


def trained(stages: Stages, backbone: Path, out: Path, config: TeacherConfig = CONFIG, seed: int = 3) -> StageResult:
    out.mkdir(exist_ok=True)
    return train_teacher(config, *stages, out, backbone=resolve_backbone(str(backbone)), seed=seed)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {**load_file(folder / "encoder" / "model.safetensors"), **load_file(folder / "head.safetensors")}


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_targets_are_one_hot_or_shared_between_neighbours() -> None:
    rows = pl.DataFrame({"grade": [0, 2, 1], "grade_mean": [0.25, 2.0, 1.6]})
    assert _targets(rows, "grade", 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    shared = _targets(rows, "interpolated", 3)
    assert shared == pytest.approx(np.array([[0.75, 0.25, 0], [0, 0, 1], [0, 0.4, 0.6]]), abs=1e-6)
    # The mean of the target is the rating that people gave.
    assert shared @ np.arange(3) == pytest.approx(rows["grade_mean"].to_numpy(), abs=1e-6)


def test_a_limit_on_rows_takes_whole_queries_in_a_seeded_order() -> None:
    rows = [(f"q{q}", f"i{k}", "test" if q == 0 else "train") for q in range(8) for k in range(3)]
    judgments = pl.DataFrame(rows, schema=["query_id", "item_id", "split"], orient="row")
    chosen = _training_rows(judgments, 7, seed=1)
    assert chosen["query_id"].value_counts()["count"].sort().to_list() == [1, 3, 3]
    assert "q0" not in chosen["query_id"]
    assert chosen.equals(_training_rows(judgments, 7, seed=1))
    assert not chosen.equals(_training_rows(judgments, 7, seed=2))
    assert _training_rows(judgments, None, seed=1).height == _training_rows(judgments, 21, seed=1).height == 21


@pytest.mark.parametrize("n_rows", [1, 7, 8, 100, 1500])
def test_every_row_comes_once_an_epoch_in_an_order_of_the_seed(n_rows: int) -> None:
    lengths = np.random.default_rng(0).integers(5, 90, size=n_rows).tolist()
    order = list(_LengthGrouped(lengths, 8, epochs=3, seed=5))
    assert len(order) == len(_LengthGrouped(lengths, 8, epochs=3, seed=5)) == 3 * n_rows
    for epoch in range(3):
        assert sorted(order[epoch * n_rows : (epoch + 1) * n_rows]) == list(range(n_rows))
    assert order == list(_LengthGrouped(lengths, 8, epochs=3, seed=5))
    if n_rows > 8:  # one batch is in order of length, whatever the seed
        assert order != list(_LengthGrouped(lengths, 8, epochs=3, seed=6))
        assert order[:n_rows] != order[n_rows : 2 * n_rows]


def test_batches_hold_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, size=512)
    order = np.array(list(_LengthGrouped(lengths.tolist(), 8, epochs=1, seed=0)))
    batches = lengths[order].reshape(-1, 8)
    assert np.ptp(batches, axis=1).max() <= 15
    assert (np.diff(batches.max(axis=1)) < 0).any()  # and the batches are in random order


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("encoder.embeddings.word_embeddings.weight", 0),
        ("encoder.embeddings.LayerNorm.bias", 0),
        ("encoder.encoder.layer.0.attention.self.query.weight", 1),
        ("encoder.encoder.layer.11.output.dense.bias", 12),
        ("encoder.final_norm.weight", 0),
        ("head.0.weight", 13),
        ("head.2.bias", 13),
    ],
)
def test_depth_counts_from_the_word_vectors_to_the_head(name: str, depth: int) -> None:
    assert _depth(name, layers=12) == depth


def test_learning_rates_fall_by_the_decay_a_layer(tiny_backbone: Path) -> None:
    config = TeacherConfig(learning_rate=0.8, layer_decay=0.5, weight_decay=0.1)
    model = new_network(resolve_backbone(str(tiny_backbone)), config, 3, seed=0)
    groups = _parameter_groups(model, config)
    rate_of = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert len(rate_of) == len(named) == sum(len(group["params"]) for group in groups)
    # Head at the full rate, then halved for each of two layers and once more for the word vectors.
    expected = {
        "head.2.weight": (0.8, 0.1),
        "head.0.bias": (0.8, 0.0),
        "encoder.encoder.layer.1.output.dense.weight": (0.4, 0.1),
        "encoder.encoder.layer.0.attention.self.key.weight": (0.2, 0.1),
        "encoder.encoder.layer.0.output.LayerNorm.weight": (0.2, 0.0),
        "encoder.embeddings.word_embeddings.weight": (0.1, 0.0),
        "encoder.embeddings.position_embeddings.weight": (0.1, 0.0),
    }
    assert {name: rate_of[id(named[name])] for name in expected} == expected


def test_a_checkpoint_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    for name, is_complete in (("checkpoint-4", True), ("checkpoint-8", False)):
        (tmp_path / name).mkdir()
        if is_complete:
            (tmp_path / name / "complete").touch()
    _keep_complete(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


@pytest.fixture(scope="module")
def undisturbed(
    stages: Stages, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StageResult]:
    out = tmp_path_factory.mktemp("undisturbed")
    return out, trained(stages, tiny_backbone, out)


def test_training_lowers_the_loss_and_leaves_a_teacher(undisturbed: tuple[Path, StageResult]) -> None:
    out, result = undisturbed
    history = read_json(out / "history.json")
    assert [row["step"] for row in history] == [6, 12, 18]
    assert history[-1]["dev_loss"] < history[0]["dev_loss"]
    assert result.counts["train_rows"] == 48
    assert result.counts["dev_rows"] == 12
    assert result.counts["dev_auroc"] == history[-1]["dev_auroc"]
    teacher = load_teacher(out)
    assert teacher.temperature == history[-1]["temperature"]
    assert np.load(out / "token_vectors.npy").dtype == np.float16
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize("stop_at", [5, 7, 12])
def test_a_resumed_run_gives_the_weights_of_an_undisturbed_one(
    stages: Stages,
    tiny_backbone: Path,
    undisturbed: tuple[Path, StageResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    """Checkpoints are at steps 4, 8, 12, 16, judgements at 6, 12, 18: it dies before, after and at a judgement."""
    out = tmp_path / "out"
    whole_step = training._Watch.on_step_end

    def dies(self: object, args: object, state: object, control: object, **rest: object) -> None:
        if state.global_step == stop_at:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        whole_step(self, args, state, control, **rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(training._Watch, "on_step_end", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(stages, tiny_backbone, out)
    assert list((out / "checkpoints").glob("checkpoint-*"))
    trained(stages, tiny_backbone, out)
    assert largest_difference(out, undisturbed[0]) <= 1e-6
    steps = [row["step"] for row in read_json(out / "history.json")]
    assert steps == [6, 12, 18]


def test_another_seed_gives_other_weights(
    stages: Stages, tiny_backbone: Path, undisturbed: tuple[Path, StageResult], tmp_path: Path
) -> None:
    trained(stages, tiny_backbone, tmp_path / "out", CONFIG.model_copy(update={"epochs": 1}), seed=4)
    assert largest_difference(tmp_path / "out", undisturbed[0]) > 1e-3


def test_a_model_that_diverges_is_a_model_error(stages: Stages, tiny_backbone: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "epochs": 1})
    with pytest.raises(ModelError, match=r"teacher: the model gives NaN; lower teacher\.learning_rate"):
        trained(stages, tiny_backbone, tmp_path / "out", config)
