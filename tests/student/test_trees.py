"""Boosted trees: gradients against a numeric derivative, learning, and the ONNX graph against LightGBM itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest

from pertinent.bundle import open_bundle
from pertinent.bundle.adhoc import text_inputs
from pertinent.bundle.verify import verify_bundle
from pertinent.config import parse_config
from pertinent.errors import ConfigError
from pertinent.evaluation.classification import mean_auroc
from pertinent.student.config import ExportConfig, StudentConfig, TreesConfig
from pertinent.student.prepare import Prepared, prepare
from pertinent.student.train import train_student
from pertinent.student.tree_graph import ServedTrees, rounded_down
from pertinent.student.trees import Trees, fit_trees, scalars_of, soft_gradients
from pertinent.student.vectors import StaticVectors, first_vectors

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'pertinent[trees]'")
TREES = TreesConfig(rounds=40, leaves=7, min_leaf_rows=5, learning_rate=0.2, patience=2)
CONFIG = StudentConfig(backend="lightgbm", trees=TREES, dimensions=16, probe_pairs=20)


def test_gradients_are_those_of_the_weighted_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    raw, weights = rng.normal(size=(6, 3)), rng.uniform(0.5, 2, 6).astype(np.float32)
    targets = rng.dirichlet(np.ones(3), 6).astype(np.float32)

    def loss(logits: Any) -> float:
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return float(-(weights[:, None] * targets * logs).sum())

    gradient, hessian = soft_gradients(raw, targets, weights)
    for i, k in ((0, 0), (3, 2), (5, 1)):
        step = np.zeros_like(raw)
        step[i, k] = 1e-4
        ends = loss(raw + step), loss(raw - step)
        assert gradient[i, k] == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-6)
        second = (ends[0] + ends[1] - 2 * loss(raw)) / 1e-8
        assert hessian[i, k] == pytest.approx(1.5 * second, abs=1e-4)  # n / (n - 1) of the true diagonal
    assert np.allclose(soft_gradients(raw.T.ravel(), targets, weights)[0], gradient)


@pytest.fixture(scope="module")
def trained(stages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Trees, Prepared, Any, Any]:
    out = tmp_path_factory.mktemp("trees")
    prepared = prepare(CONFIG, **stages, out=out, mined={})
    start = first_vectors(stages["labels"] / "token_vectors.npy", CONFIG.dimensions)
    texts = StaticVectors.of(start, prepared)
    trees, history = fit_trees(CONFIG, texts, prepared, out, 0)
    return trees, prepared, history, texts


def test_an_easy_rule_is_learned_and_the_best_round_is_kept(trained: tuple[Trees, Prepared, Any, Any]) -> None:
    trees, _, history, _ = trained
    assert history[-1]["dev_auroc"] > 0.8
    assert trees.rounds == max(history, key=lambda row: row["dev_auroc"])["epoch"]
    assert [row["epoch"] for row in history] == [10 * (k + 1) for k in range(len(history))]


def test_without_a_tree_the_logits_are_the_shares_of_the_targets(trained: tuple[Trees, Prepared, Any, Any]) -> None:
    trees, prepared, _, _ = trained
    blocks = [prepared.rows.block(k) for k in range(len(prepared.rows.sizes))]
    shares = np.concatenate([block.targets for block in blocks]).mean(axis=0)
    assert np.exp(trees.base) == pytest.approx(shares, rel=1e-5)


def test_the_graph_says_what_lightgbm_says(trained: tuple[Trees, Prepared, Any, Any], tmp_path: Path) -> None:
    trees, prepared, _, _ = trained
    n_features = prepared.dev_rows.features.shape[1]
    rng = np.random.default_rng(1)
    query, items = rng.normal(size=(1, 16)).astype(np.float32), rng.normal(size=(300, 16)).astype(np.float32)
    features = prepared.dev_rows.features[rng.integers(0, len(prepared.dev_rows.features), 300)].copy()
    # Features that equal a threshold, or the float32 next to it, go where LightGBM sends them.
    splits = [
        (node["split_feature"], node["threshold"])
        for tree in trees.booster.dump_model()["tree_info"]
        for node in _nodes(tree["tree_structure"])
        if node["split_feature"] < n_features
    ]
    for row in range(200):
        column, threshold = splits[rng.integers(0, len(splits))]
        near = np.float32(threshold)
        features[row, column] = near if row % 2 else np.nextafter(near, np.float32(np.inf))
    file = tmp_path / "student.onnx"
    ServedTrees(trees, 1.7, n_features).write_pairs(16, items[:2], file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(["probs"], {"query": query, "items": items, "features": features})[0]
    logits = trees.logits(scalars_of(query, items, features)) / 1.7
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(found - expected).max() < 1e-5
    assert found.std(axis=0).min() > 0.01


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    if "split_feature" not in node:
        return []
    return [node, *_nodes(node["left_child"]), *_nodes(node["right_child"])]


def test_a_threshold_is_never_rounded_up() -> None:
    for threshold in (0.1, 1 / 3, 0.5, -2.7, 1e-30, 1.0000000180025095e-35):
        low = rounded_down(threshold)
        assert float(low) <= threshold < float(np.nextafter(low, np.float32(np.inf)))


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_trees_are_exported_into_a_bundle_that_passes_the_same_gate(
    stages: dict[str, Path], tmp_path: Path, precision: str
) -> None:
    config = CONFIG.model_copy(update={"export": ExportConfig(vectors=precision), "human_weight": 0.5})
    result = train_student(config, **stages, out=tmp_path, seed=0)
    assert result.counts["best_dev_auroc"] > 0.8
    assert verify_bundle(tmp_path) == result.counts["parity"]
    assert result.counts["parity"]["probabilities"] <= 1e-5
    dev = pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "dev")
    scored = open_bundle(tmp_path).score_pairs(dev.select("query", "item_id"))
    auroc = mean_auroc(dev["grade"].to_numpy(), scored.select("p_1", "p_2", "p_3").to_numpy())
    assert auroc == pytest.approx(result.counts["best_dev_auroc"], abs=0.02)  # vectors are rounded
    assert "boosted trees" in (tmp_path / "README.md").read_text()
    scorer = open_bundle(tmp_path)
    found = scorer.run(*text_inputs(scorer, "red sofa", ["a red sofa", "soup"]))
    assert found[0, 2] > found[1, 2]


def test_a_boosting_that_is_begun_again_gives_the_same_trees(stages: dict[str, Path], tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        train_student(CONFIG, **stages, out=tmp_path / name, seed=0)
        files.append((tmp_path / name / "student.onnx").read_bytes())
    assert files[0] == files[1]


def test_what_only_the_network_can_do_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"margin_weight: expected the network's backend for it, found 0.5"):
        parse_config(StudentConfig, {"backend": "lightgbm", "margin_weight": 0.5}, "student")
