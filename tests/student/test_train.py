from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import torch

from pertinent.bundle import open_bundle
from pertinent.bundle.verify import verify_bundle
from pertinent.features.lexical import FEATURE_NAMES
from pertinent.features.ragged import Ragged
from pertinent.files import read_json
from pertinent.student import judging, neural
from pertinent.student import train as training
from pertinent.student.config import ExportConfig, StudentConfig
from pertinent.student.dataset import pair_rows, read_catalogue
from pertinent.student.network import StaticTable, StudentHead, bags
from pertinent.student.neural import step_pairs
from pertinent.student.train import train_student
from pertinent.teacher.pairs import load_tokenizer
from pertinent.types import StageResult

CONFIG = StudentConfig(dimensions=16, hidden=(16,), epochs=4, batch_size=64, dropout=0.1, probe_pairs=20)
SEED = 2  # both as in conftest.py
Trained = tuple[Path, StageResult]


def test_an_easy_rule_is_learned(student: Trained) -> None:
    out, result = student
    history = read_json(out / "history.json")
    assert result.counts["best_dev_auroc"] > 0.8
    assert result.counts["best_dev_auroc"] == max(row["dev_auroc"] for row in history)
    assert history[-1]["loss"] < history[0]["loss"]
    assert result.counts["items"] == 60
    assert not (out / "training.pt").exists()


def test_tokens_in_use_are_trained_and_the_others_are_served_as_they_came(
    student: Trained, stages: dict[str, Path]
) -> None:
    tokenizer = load_tokenizer(stages["labels"] / "tokenizer.json")
    texts = pl.read_parquet(stages["text"] / "items.parquet")["text"].to_list()
    used = sorted({i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids})
    first = np.load(stages["labels"] / "token_vectors.npy")[:, :16]
    changed = (np.load(student[0] / "token_vectors.npy") != first).any(axis=1)
    assert np.flatnonzero(changed).tolist() == used


def test_the_bundle_gives_the_training_sides_probabilities(student: Trained, stages: dict[str, Path]) -> None:
    out, result = student
    assert result.counts["parity"]["probabilities"] <= 1e-5
    assert verify_bundle(out) == result.counts["parity"]
    probe = pl.read_parquet(out / "items" / "probe.parquet")
    assert probe.height == 20
    scored = open_bundle(out).score_pairs(probe.select("query", "item_id"))
    assert (
        np.abs(scored.select("p_1", "p_2", "p_3").to_numpy() - probe.select("p_1", "p_2", "p_3").to_numpy()).max()
        <= 1e-5
    )
    assert scored.select("p_1", "p_2", "p_3").to_numpy().sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def test_what_rounding_the_vectors_costs_is_told_apart_from_parity(
    stages: dict[str, Path], tmp_path: Path, student: Trained
) -> None:
    moved = {"float16": student[1].counts["vectors"]["probabilities_moved"]}
    for precision in ("float32", "int8"):
        out = tmp_path / precision
        out.mkdir()
        config = CONFIG.model_copy(update={"export": ExportConfig(vectors=precision)})  # type: ignore[arg-type]
        counts = train_student(config, **stages, out=out, seed=SEED).counts
        assert counts["parity"]["features"] == 0
        assert counts["parity"]["probabilities"] <= 1e-5
        assert counts["vectors"]["precision"] == precision
        moved[precision] = counts["vectors"]["probabilities_moved"]
    assert {key: row["pairs"] for key, row in moved.items()} == dict.fromkeys(moved, 20)
    assert moved["float32"]["max"] <= 1e-6 < moved["float16"]["max"] < 1e-3
    assert moved["float16"]["max"] < moved["int8"]["max"] < 0.05
    assert student[1].counts["vectors"]["bytes_per_item"] == 2 * (16 + 16)


def test_the_probe_is_what_the_network_in_torch_says(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dev probabilities that training judged itself by are the ones that are served."""
    kept: list[Any] = []
    fit = training.fit

    def watched(config: Any, learner: Any, *rest: Any) -> Any:
        kept.append(learner)
        return fit(config, learner, *rest)

    monkeypatch.setattr(training, "fit", watched)
    result = train_student(CONFIG.model_copy(update={"epochs": 1}), **stages, out=tmp_path, seed=SEED)
    tokenizer = load_tokenizer(stages["labels"] / "tokenizer.json")
    catalogue = read_catalogue(stages["text"], tokenizer)
    dev = pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "dev")
    logits = kept[0].logits(pair_rows(dev, catalogue, "dev"))
    expected = torch.softmax(torch.from_numpy(logits) / result.counts["best_temperature"], dim=1).numpy()
    bundle = open_bundle(tmp_path)
    scored = bundle.score_pairs(dev.select("query", "item_id"))
    assert np.abs(scored.select("p_1", "p_2", "p_3").to_numpy() - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        (judging, "mean_auroc", 2),
        (judging, "mean_auroc", 4),
        (neural, "write_json", 4),
        (training, "export_bundle", 1),
    ],
)
def test_a_resumed_training_equals_an_undisturbed_one(
    stages: dict[str, Path],
    student: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    function: str,
    call: int,
) -> None:
    """The run dies when it calls a function for the n-th time: inside an epoch, at the end of the last, after it."""
    n_calls = 0
    whole = getattr(module, function)

    def dies(*arguments: Any, **named: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == call:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, function, dies)
        with pytest.raises(KeyboardInterrupt):
            train_student(CONFIG, **stages, out=tmp_path, seed=SEED)
    assert (tmp_path / "training.pt").exists()
    result = train_student(CONFIG, **stages, out=tmp_path, seed=SEED)
    out, expected = student
    assert read_json(tmp_path / "history.json") == read_json(out / "history.json")
    assert {**result.counts, "bundle_bytes": 0} == {**expected.counts, "bundle_bytes": 0}
    assert (np.load(tmp_path / "token_vectors.npy") == np.load(out / "token_vectors.npy")).all()
    assert (tmp_path / "student.onnx").read_bytes() == (out / "student.onnx").read_bytes()


def test_patience_stops_and_the_best_epoch_is_kept(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(patience: int) -> tuple[list[float], Any]:
        aurocs = iter([0.6, 0.9, 0.7, 0.8, 0.85])
        monkeypatch.setattr(judging, "mean_auroc", lambda grades, probs: next(aurocs))
        out = tmp_path / str(patience)
        out.mkdir()
        result = train_student(
            CONFIG.model_copy(update={"epochs": 5, "patience": patience}), **stages, out=out, seed=SEED
        )
        assert result.counts["best_epoch"] == 2
        return [row["dev_auroc"] for row in read_json(out / "history.json")], np.load(out / "token_vectors.npy")

    (patient, vectors), (hasty, same_vectors) = run(2), run(1)
    assert patient == [0.6, 0.9, 0.7, 0.8]
    assert hasty == [0.6, 0.9, 0.7]
    assert (vectors == same_vectors).all()  # those of epoch 2, whatever came after


def test_pair_features_do_not_depend_on_the_order_of_pairs(stages: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(stages["labels"] / "tokenizer.json")
    catalogue = read_catalogue(stages["text"], tokenizer)
    pairs = pl.read_parquet(stages["labels"] / "shard-00000.parquet")
    order = np.random.default_rng(0).permutation(pairs.height)
    rows, shuffled = (pair_rows(table, catalogue, "test") for table in (pairs, pairs[order]))
    assert rows.features.shape == (pairs.height, len(FEATURE_NAMES))
    assert np.abs(rows.features[order] - shuffled.features).max() <= 1e-6
    assert [shuffled.queries[i] for i in shuffled.query_rows] == pairs[order]["query"].to_list()
    assert [catalogue.ids[i] for i in shuffled.item_rows] == pairs[order]["item_id"].to_list()


@pytest.mark.parametrize(("n_rows", "expected"), [(90_000, 512), (8_192, 512), (1_600, 100), (100, 32)])
def test_a_small_data_set_gets_smaller_steps(n_rows: int, expected: int) -> None:
    assert step_pairs(StudentConfig(batch_size=512), n_rows) == expected
    assert step_pairs(StudentConfig(batch_size=8), n_rows) == 8


def test_a_text_is_the_direction_of_its_weighted_tokens() -> None:
    vectors = np.array([[3, 0], [0, 1], [5, 5]], dtype=np.float32)
    table = StaticTable(vectors, np.array([1, 4, 0.5], dtype=np.float32))
    found = table(*bags(Ragged.of([[0, 1], [], [2]]))).detach().numpy()
    assert found == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0.5**0.5, 0.5**0.5]]), abs=1e-6)
    assert table.weighted().tolist() == [[3, 0], [0, 4], [2.5, 2.5]]


def test_features_are_standardised_and_clamped_inside_the_head() -> None:
    mean, std = np.array([1, 0], dtype=np.float32), np.array([2, 0], dtype=np.float32)
    head = StudentHead(2, mean, std, (3,), n_grades=2, dropout=0.0)
    taken: list[torch.Tensor] = []
    head.layers.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    query, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    head(query, items, torch.tensor([[4.0, 0.0], [-99.0, 7.0]]))
    root = math.sqrt(2)
    first = [root, 0, 0.6 * root, 0.8 * root, 0.4 * root, 0.8 * root, 0.6 * 2, 0, 0.6 * 4, 1.5, 0]
    assert taken[0][0].tolist() == pytest.approx(first, abs=1e-6)
    assert taken[0][1, -3:].tolist() == pytest.approx([4, -5, 0], abs=1e-6)  # a feature that never moved says nothing


def test_the_network_file_is_valid_and_takes_any_number_of_candidates(student: Trained) -> None:
    out, _ = student
    model = onnx.load(out / "student.onnx")
    onnx.checker.check_model(model)
    scorer = open_bundle(out)
    for n in (1, 2, 57):
        probs = scorer.score("red sofa", [f"i{k:02d}" for k in range(n)])
        assert probs.shape == (n, 3)
