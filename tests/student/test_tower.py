"""The tower: a bi-encoder that learns the labels, exported as a sentence encoder is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pertinent.bundle import open_bundle
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import ModelError
from pertinent.evaluation.classification import mean_auroc
from pertinent.features.sentence import SentenceEncoder, SentenceGraph
from pertinent.student import tower
from pertinent.student.config import StudentConfig, TowerConfig
from pertinent.student.prepare import Prepared, prepare
from pertinent.student.sentence import export_graph, load_encoder
from pertinent.student.tower import GradeLevels, Towers, train_tower
from pertinent.student.train import train_student
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.unpack import write_encoder

TOWER = TowerConfig(rows=250, epochs=4, batch_size=16, learning_rate=2e-3, checkpoint_steps=5)
CONFIG = StudentConfig(
    encoder="tower", tower=TOWER, dimensions=8, hidden=(16,), epochs=6, batch_size=64, probe_pairs=20
)
HOW: dict[str, Any] = {"buffer_rows": 1_000, "seed": 0}


@pytest.fixture(scope="module")
def source(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(resolve_backbone(str(tiny_backbone)), folder, max_tokens=16)
    return folder


@pytest.fixture(scope="module")
def prepared(stages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(CONFIG, **stages, out=tmp_path_factory.mktemp("prepared"), mined={})


def test_logits_are_a_slope_and_a_level_of_each_grade() -> None:
    levels = GradeLevels(3)
    levels.levels.data = torch.tensor([0.0, 1.0, -1.0])
    assert levels(torch.tensor([0.5, 0.0])).tolist() == [[-2.5, 1.0, 1.5], [0.0, 1.0, -1.0]]


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_padding_changes_no_vector(source: Path, pooling: str) -> None:
    towers = Towers(load_encoder(source), source)
    towers.pooling = pooling
    texts = ["red sofa", "a modern rustic oak table lamp", "soup"]
    with torch.inference_mode():
        together = towers.vectors(texts, "text")
        alone = torch.cat([towers.vectors([text], "text") for text in texts])
    assert (together - alone).abs().max() < 1e-5


def auroc_of(graph: Path, encoder: Any, source: Path, prepared: Prepared) -> float:
    export_graph(encoder, source, graph)
    opened = SentenceGraph.open(graph)
    texts = prepared.catalogue.texts.rows["text"].gather(prepared.dev_rows.item_rows).to_list()
    cosines = (opened.queries(prepared.dev["query"].to_list()) * opened.texts(texts)).sum(axis=1)
    chance = np.clip((cosines + 1) / 2, 0, 1)
    return mean_auroc(prepared.dev_grades, np.stack([1 - chance, chance / 2, chance / 2], axis=1))


def test_the_cosine_learns_the_grades(source: Path, prepared: Prepared, tmp_path: Path) -> None:
    before = auroc_of(tmp_path / "before", load_encoder(source), source, prepared)
    longer = TOWER.model_copy(update={"epochs": 12, "batch_size": 8, "learning_rate": 1e-3})  # so that any seed does
    trained = train_tower(longer, load_encoder(source), source, prepared, tmp_path, **HOW)
    after = auroc_of(tmp_path / "after", trained, source, prepared)
    assert after > before + 0.15
    assert after > 0.9


def test_a_killed_tower_goes_on_to_the_same_weights(
    source: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = TOWER.model_copy(update={"rows": 100, "epochs": 2})  # 7 steps a pass
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    whole = train_tower(short, load_encoder(source), source, prepared, folders[0], **HOW)
    save = tower._save

    def dies(file: Path, modules: Any, optimizer: Any, schedule: Any, steps: int) -> None:
        save(file, modules, optimizer, schedule, steps)
        if steps == 10:  # in the second pass
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tower, "_save", dies)
        with pytest.raises(KeyboardInterrupt):
            train_tower(short, load_encoder(source), source, prepared, folders[1], **HOW)
    again = train_tower(short, load_encoder(source), source, prepared, folders[1], **HOW)
    ours, theirs = whole.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_loss_that_is_no_number_is_told(source: Path, prepared: Prepared, tmp_path: Path) -> None:
    encoder = load_encoder(source)
    encoder.embeddings.LayerNorm.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match=r"the tower's loss is not a number; lower student.tower.learning_rate"):
        train_tower(TOWER, encoder, source, prepared, tmp_path, **HOW)


def test_a_student_with_a_tower_passes_the_gate(stages: dict[str, Path], source: Path, tmp_path: Path) -> None:
    result = train_student(CONFIG, **stages, out=tmp_path, seed=0, encoder=source)
    assert verify_bundle(tmp_path) == result.counts["parity"]
    scorer = open_bundle(tmp_path)
    assert isinstance(scorer.encoder, SentenceEncoder)
    assert not (tmp_path / "vectors").exists()
    dev = pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "dev")
    probs = scorer.score_pairs(dev.select("query", "item_id")).select("p_1", "p_2", "p_3").to_numpy()
    assert mean_auroc(dev["grade"].to_numpy(), probs) > 0.95
