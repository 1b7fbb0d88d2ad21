"""Bundles of random weights (the files and the code are real), and a server in a process of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
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
from servers import Server, start_server
from shops import Shop, make_shop

NAMES = ("Red velvet sofa", "Oak table 24 in", "Green wool rug", "Blue sofa", "Small lamp", "Leather couch")


def make_bundle(folder: Path, backbone: Path, seed: int) -> Path:
    text = folder.with_name(f"text-{seed}")
    text.mkdir(parents=True)
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(6)], "title": NAMES, "body": [""] * 6})
    # The encoder's text is the title as it is, so that a text sent along and a stored item can be the same.
    write_parquet(text / "items.parquet", items.with_columns(text=pl.col("title")))
    tokenizer = load_tokenizer(backbone / "tokenizer.json")
    scale = Scale(("bad", "fair", "good"))
    torch.manual_seed(seed)
    n_features = len(FEATURE_NAMES)
    mean, std = np.zeros(n_features, dtype=np.float32), np.ones(n_features, dtype=np.float32)
    table = np.random.default_rng(seed).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float16)
    head = StudentHead(8, mean, std, (16,), 3, 0.1)
    trained = TrainedStudent(
        ServedNetwork(head, 1.3, feature_specs()),
        StaticEncoder(tokenizer, table),
        read_catalogue(text, tokenizer),
        tokenizer,
        scale,
    )
    none = pl.DataFrame()
    dataset = Dataset("tiny", none, none, None, scale, (), (), True, "made in a test", "")
    pairs = pl.DataFrame(
        [(query, f"i{k}") for query in ("red sofa", "lamp") for k in range(6)],
        schema=["query", "item_id"],
        orient="row",
    )
    folder.mkdir(parents=True, exist_ok=True)
    export_bundle(trained, pairs, folder, dataset=dataset, n_probe=100)
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> tuple[Path, Path]:
    """Two bundles of the same items whose scores differ."""
    root = tmp_path_factory.mktemp("bundles")
    return make_bundle(root / "first", tiny_backbone, 0), make_bundle(root / "second", tiny_backbone, 1)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Shop:
    """A bundle of raw items of every kind, with every side."""
    return make_shop(tmp_path_factory.mktemp("shop"), tiny_backbone / "tokenizer.json")


@pytest.fixture
def link(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    """`current`, a link to the first bundle."""
    current = tmp_path / "current"
    current.symlink_to(bundles[0])
    return current


@pytest.fixture
def damaged(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    """A bundle whose probe says other probabilities than its network: right hashes, no parity."""
    from pertinent.bundle.format import write_description
    from pertinent.files import read_json

    folder = shutil.copytree(bundles[1], tmp_path / "damaged")
    probe = pl.read_parquet(folder / "items" / "probe.parquet")
    write_parquet(
        folder / "items" / "probe.parquet", probe.with_columns(p_2=pl.col("p_2") + pl.Series([0.0] * 11 + [1e-3]))
    )
    document = read_json(folder / "bundle.json")
    write_description(folder, {key: value for key, value in document.items() if key not in ("files", "format")})
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    started: list[Server] = []

    def start(*arguments: object, **environment: str) -> Server:
        started.append(start_server([str(argument) for argument in arguments], environment))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        server.close()
