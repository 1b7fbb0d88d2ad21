"""The sentence encoder: exported with pooling and 8-bit weights, run without torch, queries kept in a cache."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from pertinent.bundle import open_bundle
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import ConfigError, ModelError
from pertinent.evaluation.classification import mean_auroc
from pertinent.features.sentence import SentenceEncoder, SentenceGraph, projected
from pertinent.files import read_json
from pertinent.student import neural
from pertinent.student import train as training
from pertinent.student.config import StudentConfig
from pertinent.student.sentence import Pooled, export_graph, load_encoder
from pertinent.student.train import train_student
from pertinent.student.vectors import principal_directions
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.unpack import write_encoder
from pertinent.types import StageResult

TEXTS = ["red sofa", "title: oak table | description: a modern oak table", "soup", "red sofa"]


@pytest.fixture(scope="module")
def folders(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The unpacked encoder, and what was exported of it."""
    source, out = tmp_path_factory.mktemp("encoder"), tmp_path_factory.mktemp("graph")
    write_encoder(resolve_backbone(str(tiny_backbone)), source, max_tokens=12)
    export_graph(load_encoder(source), source, out)
    return source, out


def test_the_graph_gives_the_pooled_states_of_the_transformer(folders: tuple[Path, Path]) -> None:
    source, out = folders
    graph = SentenceGraph.open(out)
    pooled = Pooled(load_encoder(source), "mean").eval()
    found = graph.texts(TEXTS)
    assert found.shape == (4, 32)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            ids = graph.tokenizer.encode(text).ids
            expected = pooled(torch.tensor([ids]))[0].numpy()
        assert len(ids) <= 12
        assert vector @ expected > 0.99  # weights are 8-bit integers
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_vector_does_not_depend_on_what_is_beside_it(folders: tuple[Path, Path]) -> None:
    graph = SentenceGraph.open(folders[1])
    assert (graph.texts(TEXTS)[2] == graph.texts(["soup"])[0]).all()
    encoder = SentenceEncoder(graph, np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32))
    assert (encoder.encode(TEXTS)[1] == encoder.encode(TEXTS[1:2])[0]).all()
    assert encoder.encode_queries([]).shape == (0, 8)


def test_queries_are_run_once_and_the_least_recent_is_forgotten(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[str] = []
    queries = SentenceGraph.queries

    def watched(graph: SentenceGraph, texts: list[str]) -> object:
        run.extend(texts)
        return queries(graph, texts)

    monkeypatch.setattr(SentenceGraph, "queries", watched)
    encoder = SentenceEncoder(SentenceGraph.open(folders[1]), np.eye(32, 4, dtype=np.float32), cached_queries=2)
    first = encoder.encode_queries(["red", "oak", "red"])
    assert run == ["red", "oak"]
    assert (first[0] == first[2]).all()
    encoder.encode_queries(["soup", "red", "oak"])  # red was used after oak, so soup put out oak
    assert run == ["red", "oak", "soup", "oak"]


def test_prefixes_tell_the_two_sides_apart(folders: tuple[Path, Path]) -> None:
    graph = SentenceGraph.open(folders[1])
    assert (graph.query_prefix, graph.text_prefix) == ("", "")
    named = SentenceGraph(graph.folder, graph.tokenizer, graph.session, "red ", "oak ", 12, 32)
    assert (named.queries(["sofa"]) == graph.queries(["red sofa"])).all()
    assert (named.texts(["sofa"]) == graph.texts(["oak sofa"])).all()


def test_a_projection_keeps_directions_of_length_1() -> None:
    found = projected(np.array([[3, 4, 0], [0, 0, 0]], dtype=np.float32), np.eye(3, 2, dtype=np.float32))
    assert found == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


def test_a_damaged_graph_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for file in folders[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 200 if file.suffix == ".onnx" else None])
    with pytest.raises(ModelError, match=r"encoder.onnx: cannot be opened"):
        SentenceGraph.open(tmp_path)


CONFIG = StudentConfig(encoder="sentence", dimensions=8, hidden=(16,), epochs=3, batch_size=64, probe_pairs=20)
NO_TORCH = """
import sys
from pathlib import Path
from pertinent.bundle import open_bundle
scorer = open_bundle(Path(sys.argv[1]))
print(scorer.score("red sofa", ["i00", "i01"]).tolist())
assert not {"torch", "transformers", "onnx"} & set(sys.modules), sorted(sys.modules)
"""


@pytest.fixture(scope="module")
def trained(
    stages: dict[str, Path], folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StageResult]:
    out = tmp_path_factory.mktemp("sentence")
    return out, train_student(CONFIG, **stages, out=out, seed=0, encoder=folders[0])


def test_a_student_of_sentence_vectors_passes_the_gate_and_is_opened_without_torch(
    trained: tuple[Path, StageResult],
) -> None:
    out, result = trained
    assert verify_bundle(out) == result.counts["parity"]
    assert result.counts["parity"]["probabilities"] <= 1e-5
    description = read_json(out / "bundle.json")
    assert description["encoder"] == "sentence"
    assert {"encoder/encoder.onnx", "encoder/projection.npy"} <= description["files"].keys()
    assert not (out / "token_vectors.npy").exists()
    assert not (out / "vectors").exists()
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(out)], capture_output=True, text=True, check=True, timeout=60
    )
    expected = open_bundle(out).score("red sofa", ["i00", "i01"])
    assert np.allclose(json.loads(done.stdout), expected, atol=1e-6)


def test_the_projection_is_trained_and_dev_is_judged_by_what_is_served(
    trained: tuple[Path, StageResult], stages: dict[str, Path]
) -> None:
    out, result = trained
    scorer = open_bundle(out)
    assert isinstance(scorer.encoder, SentenceEncoder)
    texts = pl.read_parquet(stages["text"] / "items.parquet")["text"].to_list()
    start = principal_directions(scorer.encoder.graph.texts(texts), 8)
    assert np.allclose(start.T @ start, np.eye(8), atol=1e-5)
    assert np.abs(scorer.encoder.projection - start).max() > 1e-3
    dev = pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "dev")
    probs = scorer.score_pairs(dev.select("query", "item_id")).select("p_1", "p_2", "p_3").to_numpy()
    assert mean_auroc(dev["grade"].to_numpy(), probs) == pytest.approx(result.counts["best_dev_auroc"], abs=0.01)


def test_a_changed_graph_is_refused(trained: tuple[Path, StageResult], tmp_path: Path) -> None:
    bundle = shutil.copytree(trained[0], tmp_path / "bundle")
    file = bundle / "encoder" / "encoder.onnx"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ModelError, match=r"encoder/encoder.onnx: expected SHA-256"):
        open_bundle(bundle)


def test_a_killed_training_goes_on_with_the_vectors_that_are_there(
    stages: dict[str, Path], folders: tuple[Path, Path], trained: tuple[Path, StageResult], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def dies(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(neural, "write_json", dies)
        with pytest.raises(KeyboardInterrupt):
            train_student(CONFIG, **stages, out=tmp_path, seed=0, encoder=folders[0])
    assert (tmp_path / "vectors" / "items" / "000000.npy").exists()
    with monkeypatch.context() as patched:
        patched.setattr(SentenceGraph, "texts", dies)
        patched.setattr(training, "export_graph", dies)
        train_student(CONFIG, **stages, out=tmp_path, seed=0, encoder=folders[0])
    assert (tmp_path / "student.onnx").read_bytes() == (trained[0] / "student.onnx").read_bytes()


def test_settings_that_do_not_fit_are_told_at_once(
    stages: dict[str, Path], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"student.encoder: expected an encoder's folder for sentence, found none"):
        train_student(CONFIG, **stages, out=tmp_path, seed=0)
    wide = CONFIG.model_copy(update={"dimensions": 64})
    with pytest.raises(ConfigError, match=r"student.dimensions: expected at most the 32 of the encoder, found 64"):
        train_student(wide, **stages, out=tmp_path, seed=0, encoder=folders[0])
