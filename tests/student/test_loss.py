from __future__ import annotations

import math
import re
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pertinent.bundle import open_bundle
from pertinent.errors import ConfigError, DataError
from pertinent.features.declare import FeatureSpec
from pertinent.student import neural
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import left_out
from pertinent.student.loss import margin_loss, soft_cross_entropy
from pertinent.student.network import StudentHead
from pertinent.student.rows import shuffled_places
from pertinent.student.shards import human_rows, label_blocks
from pertinent.student.train import train_student

CONFIG = StudentConfig(dimensions=16, hidden=(16,), epochs=1, batch_size=64, dropout=0.0, probe_pairs=20)
NAMES = ("p_1", "p_2", "p_3")


def random_batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(n, 3, generator=generator)
    return logits, torch.softmax(torch.randn(n, 3, generator=generator), dim=1)


def test_cross_entropy_without_temperature_is_torchs_own() -> None:
    logits, targets = random_batch(7)
    expected = torch.nn.functional.cross_entropy(logits, targets).item()
    assert soft_cross_entropy(logits, targets, torch.ones(7)).item() == pytest.approx(expected, rel=1e-6)
    weights = torch.tensor([2.0, 0, 0, 0, 0, 0, 1.0])
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    weighted = ((2 * each[0] + each[6]) / 3).item()
    assert soft_cross_entropy(logits, targets, weights).item() == pytest.approx(weighted, rel=1e-6)


def test_a_temperature_softens_both_sides() -> None:
    # p = (0.8, 0.2) at T = 2: square roots, (2, 1) / 3; logits (2 ln 3, 0) / 2 give (3, 1) / 4. Times 4.
    logits, targets = torch.tensor([[2 * math.log(3), 0.0]]), torch.tensor([[0.8, 0.2]])
    expected = -4 * (2 / 3 * math.log(3 / 4) + 1 / 3 * math.log(1 / 4))
    assert soft_cross_entropy(logits, targets, torch.ones(1), 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_the_margin_loss_is_the_mean_over_pairs_of_one_query() -> None:
    logits, targets = random_batch(6)
    query = [0, 1, 0, 2, 0, 1]
    errors = (torch.softmax(logits, 1) - targets) @ torch.tensor([0.0, 1.0, 2.0])
    pairs = [(i, j) for i, j in combinations(range(6), 2) if query[i] == query[j]]
    expected = np.mean([(errors[i] - errors[j]).item() ** 2 for i, j in pairs])
    assert margin_loss(logits, targets, torch.tensor(query)).item() == pytest.approx(expected, rel=1e-5)
    assert margin_loss(logits[:2], targets[:2], torch.tensor([0, 1])).item() == pytest.approx(0, abs=1e-6)


def test_an_epochs_order_has_every_row_once_and_by_query_keeps_queries_together() -> None:
    queries = np.array([0, 1, 7, 0, 1, 7, 7, 0], dtype=np.int32)
    for by_query in (False, True):
        orders = [shuffled_places(queries, np.random.default_rng((3, epoch)), by_query=by_query) for epoch in range(4)]
        assert all(sorted(order) == list(range(8)) for order in orders)
        assert len({tuple(order) for order in orders}) > 1
    changes = [int((np.diff(queries[order]) != 0).sum()) for order in orders]
    assert changes == [2] * 4


def test_feature_dropout_puts_features_at_their_mean_in_training_alone() -> None:
    torch.manual_seed(0)
    head = StudentHead(2, np.full(50, 3, dtype=np.float32), np.ones(50, dtype=np.float32), (3,), 2, 0.0, 0.4)
    taken: list[torch.Tensor] = []
    head.layers.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    vectors, features = torch.ones(40, 2), torch.full((40, 50), 5.0)
    head(vectors, vectors, features)
    dropped = taken[0][:, -50:]
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.05)
    head.eval()(vectors, vectors, features)
    assert (taken[1][:, -50:] == 2).all()


def test_human_rows_are_judged_training_pairs_with_their_weight() -> None:
    judgments = pl.DataFrame(
        {"query": ["q", "r", "s"], "item_id": ["a", "b", "c"], "grade": [2, 0, 1], "split": ["train", "dev", "train"]}
    )
    assert human_rows(judgments, NAMES, 0.5).rows() == [("q", "a", 0, 0, 1, 0.5), ("s", "c", 0, 1, 0, 0.5)]


def labels_of(stages: dict[str, Path]) -> pl.DataFrame:
    return pl.concat(list(label_blocks(stages["labels"], NAMES)))


def watched_loss(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """What each step was given: the sum of the weights, the temperature."""
    calls: list[tuple[float, float]] = []
    loss = neural.soft_cross_entropy

    def watched(logits: Any, targets: Any, weights: Any, temperature: float) -> Any:
        calls.append((float(weights.sum()), temperature))
        return loss(logits, targets, weights, temperature)

    monkeypatch.setattr(neural, "soft_cross_entropy", watched)
    return calls


def test_all_settings_of_the_loss_reach_the_training(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "train").height
    n_labels = labels_of(stages).height
    calls = watched_loss(monkeypatch)
    changes = {"human_weight": 3.0, "temperature": 2.0, "margin_weight": 0.5, "feature_dropout": 0.1}
    result = train_student(CONFIG.model_copy(update=changes), **stages, out=tmp_path, seed=0)
    assert (result.counts["label_rows"], result.counts["human_rows"]) == (n_labels, judged)
    assert sum(weight for weight, _ in calls) == pytest.approx(n_labels + 3.0 * judged)
    assert {temperature for _, temperature in calls} == {2.0}


def with_labels(stages: dict[str, Path], folder: Path, table: pl.DataFrame, name: str) -> dict[str, Path]:
    folder.mkdir()
    for file in ("tokenizer.json", "token_vectors.npy"):
        shutil.copyfile(stages["labels"] / file, folder / file)
    table.write_parquet(folder / name)
    return {**stages, "labels": folder}


def test_a_folder_of_any_parquet_files_with_weights_is_read(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = labels_of(stages).with_row_index("row")
    weighted = table.with_columns(weight=pl.when(pl.col("row") < 10).then(0.0).otherwise(0.25)).drop("row")
    folders = with_labels(stages, tmp_path / "labels", weighted, "part-7.parquet")
    calls = watched_loss(monkeypatch)
    (tmp_path / "out").mkdir()
    train_student(CONFIG, **folders, out=tmp_path / "out", seed=0)
    assert sum(weight for weight, _ in calls) == pytest.approx(0.25 * (table.height - 10))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"p_1": 0.9},
            "row 0: expected a query, an item_id, probabilities that sum to 1 and a weight of 0 or more, found p_1 0.9",
        ),
        ({"p_1": None}, "found p_1 None"),
        ({"p_1": float("nan")}, "found p_1 nan"),
        ({"weight": -1.0}, "weight -1.0"),
        ({"weight": 0.0}, "expected label rows with a weight above 0, found none"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(
    stages: dict[str, Path], tmp_path: Path, change: dict[str, float | None], problem: str
) -> None:
    row = {"query": ["red sofa"], "item_id": ["i00"], "p_1": 0.5, "p_2": 0.25, "p_3": 0.25, "weight": 1.0}
    table = pl.DataFrame(row).with_columns([pl.lit(value, pl.Float64).alias(name) for name, value in change.items()])
    folders = with_labels(stages, tmp_path / "labels", table, "shard-0.parquet")
    with pytest.raises(DataError, match=re.escape(problem)):
        train_student(CONFIG, **folders, out=tmp_path, seed=0)


def test_features_are_left_out_by_name_pattern_or_as_the_vectors() -> None:
    specs = [FeatureSpec(name, "query-item", "test") for name in ("title.bm25", "title.phrase", "body.bm25")]
    assert [mask.tolist() for mask in left_out(specs, ())[:1]] == [[False] * 3]
    assert left_out(specs, ("*.bm25",))[0].tolist() == [True, False, True]
    assert left_out(specs, ("title.phrase", "vectors"))[1]
    with pytest.raises(ConfigError, match=r"student.features.without: expected a feature or a pattern .* found tittle"):
        left_out(specs, ("tittle.*",))


@pytest.mark.parametrize("backend", ["network", "lightgbm"])
def test_what_is_left_out_moves_no_probability_of_the_bundle(
    stages: dict[str, Path], tmp_path: Path, backend: str
) -> None:
    if backend == "lightgbm":
        pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'pertinent[trees]'")
    settings = {"features": {"without": ["body.*", "vectors"]}, "trees": {"rounds": 10, "min_leaf_rows": 5}}
    config = StudentConfig.model_validate({**CONFIG.model_dump(), "backend": backend, **settings})
    train_student(config, **stages, out=tmp_path, seed=0)
    scorer = open_bundle(tmp_path)
    query, items, features = scorer.inputs("red sofa", np.arange(60), halves=False)
    rng = np.random.default_rng(0)
    body = [name.startswith("body.") for name in scorer.feature_names]
    changed = features.copy()
    changed[:, body] = rng.normal(size=(60, sum(body)))
    other = rng.normal(size=items.shape).astype(np.float32)
    expected = scorer.run(query, items, features)
    assert expected.std(axis=0).min() > 1e-4
    assert (scorer.run(query[:, ::-1].copy(), other, changed) == expected).all()
