"""A bundle of a student with random weights: the files and the code are real, only nothing was learned."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from pertinent.data.build import Dataset
from pertinent.features.encoder import StaticEncoder
from pertinent.features.lexical import FEATURE_NAMES, feature_specs
from pertinent.files import write_parquet
from pertinent.student.dataset import read_catalogue
from pertinent.student.export import TrainedStudent, export_bundle
from pertinent.student.network import StudentHead
from pertinent.student.served import ServedNetwork
from pertinent.teacher.pairs import load_tokenizer
from pertinent.types import Scale

NAMES = ("Red velvet sofa", "Oak table 24 in", "Green wool rug", "Blue sofa", "Small lamp", "Leather couch")
QUERIES = ("red sofa", "oak table", "lamp")


@pytest.fixture(scope="session")
def whole_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    text, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("bundle")
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(6)], "title": NAMES, "body": ["modern"] * 6})
    write_parquet(text / "items.parquet", items.with_columns(text="title: " + pl.col("title")))
    tokenizer = load_tokenizer(tiny_backbone / "tokenizer.json")
    scale = Scale(("bad", "fair", "good"))
    torch.manual_seed(0)
    n_features = len(FEATURE_NAMES)
    mean, std = np.zeros(n_features, dtype=np.float32), np.ones(n_features, dtype=np.float32)
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float16)
    trained = TrainedStudent(
        ServedNetwork(StudentHead(8, mean, std, (16,), 3, 0.1), 1.3, feature_specs()),
        StaticEncoder(tokenizer, table),
        read_catalogue(text, tokenizer),
        tokenizer,
        scale,
    )
    none = pl.DataFrame()
    dataset = Dataset("tiny", none, none, None, scale, (), (), True, "made in a test", "")
    pairs = pl.DataFrame(
        [(query, f"i{k}") for query in QUERIES for k in range(6)], schema=["query", "item_id"], orient="row"
    )
    parity = export_bundle(trained, pairs, out, dataset=dataset, n_probe=100)
    assert parity["probabilities"] <= 1e-5
    return out


@pytest.fixture
def bundle(whole_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(whole_bundle, tmp_path / "bundle")
