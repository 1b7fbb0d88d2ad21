"""A few judged pairs as stage folders, and short cuts to tiny teachers: trained ones, and untrained ones that differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from pertinent.files import write_json
from pertinent.teacher.config import TeacherConfig
from pertinent.types import StageResult

if TYPE_CHECKING:
    from pertinent.teacher.cross_encoder import CrossEncoder
    from pertinent.teacher.saving import Trained

COLOURS = ("red", "blue", "green")
THINGS = ("sofa", "chair", "table", "lamp", "rug")

TinyFolder = Callable[[str], Path]


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, text): 15 items, 15 queries of 4 judged items each; the grade counts the words in common.

    48 train and 12 dev pairs. Two raters judged each pair: of a mean of 0.25 (in their own unit) both said 0.
    """
    data, text = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("text")
    names = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
    items = pl.DataFrame({"item_id": [f"i{k:02d}" for k in range(15)], "title": names})
    items.write_parquet(data / "items.parquet")
    texts = items.select("item_id", text="title: " + pl.col("title") + " | description: easy " + pl.col("title"))
    texts.write_parquet(text / "items.parquet")
    rows = []
    for q, query in enumerate(names):
        for k in (q, (q + 1) % 15, (q + 4) % 15, (q + 7) % 15):
            grade = len(set(query.split()) & set(names[k].split()))
            split = "dev" if q % 4 == 3 else "train"
            mean = {0: 0.25, 1: 1.0, 2: 1.75}[grade]
            counts = {0: [2, 0, 0], 1: [1, 0, 1], 2: [0, 1, 1]}[grade]
            rows.append((f"q{q:02d}", query, f"i{k:02d}", grade, mean, counts, 2, "en", split))
    columns = ["query_id", "query", "item_id", "grade", "grade_mean", "grade_counts", "n_ratings", "language", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(data / "judgments.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en"], "attributes": []}
    write_json(data / "dataset.json", {**about, "scale": {"guidelines": ["bad", "fair", "good"]}})
    return data, text


@pytest.fixture(scope="session")
def config_of() -> Callable[..., TeacherConfig]:
    """A configuration for the tiny stages, with changes: 6 steps an epoch, float32, a checkpoint every 4 steps."""

    def config(**changes: Any) -> TeacherConfig:
        settings: dict[str, Any] = {"max_tokens": 48, "max_query_tokens": 8, "epochs": 2, "batch_size": 8}
        settings |= {"learning_rate": 3e-3, "precision": "float32", "checkpoint_steps": 4, "score_batch_tokens": 256}
        return TeacherConfig(**settings | {"pad_token": "[PAD]"} | changes)

    return config


@pytest.fixture(scope="session")
def train(stages: tuple[Path, Path], tiny_folder: TinyFolder) -> Callable[..., StageResult]:
    """Trains a teacher from a kind of tiny model, or a folder, in ``out``."""
    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.train import train_teacher

    def train(kind: str | Path, out: Path, config: TeacherConfig, seed: int = 3) -> StageResult:
        out.mkdir(exist_ok=True, parents=True)
        folder = tiny_folder(kind) if isinstance(kind, str) else kind
        return train_teacher(config, *stages, out, backbone=resolve_backbone(str(folder)), seed=seed)

    return train


@pytest.fixture(scope="session")
def untrained(tiny_folder: TinyFolder, config_of: Callable[..., TeacherConfig]) -> Callable[..., Trained]:
    """What training would leave, had it drawn large weights for the head and the adapters: pairs get unlike logits."""
    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.calibration import Calibration
    from pertinent.teacher.saving import Trained
    from pertinent.teacher.train import prepare_network

    def untrained(kind: str = "bert", n_grades: int = 3, seed: int = 1, **changes: Any) -> Trained:
        config = config_of(**changes)
        backbone = resolve_backbone(str(tiny_folder(kind)))
        made = prepare_network(backbone, config, n_grades, seed)
        perturb(made.network, seed)
        return Trained(
            network=made.network,
            adapters=made.adapters,
            pairs=made.pairs,
            tokenizer_file=backbone.tokenizer_file,
            pad_id=made.pad_id,
            calibration=Calibration.none(config.head, n_grades),
            precision=config.precision,
            batch_tokens=config.score_batch_tokens,
            backbone=backbone.description,
            template=config.template if made.architecture == "decoder" else None,
        )

    return untrained


def perturb(network: CrossEncoder, seed: int) -> None:
    """New random weights for the head and for adapters, which are otherwise almost and wholly without effect."""
    import torch

    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".original_module." not in name and (name.startswith("head.") or ".lora_" in name):
                parameter.copy_(torch.randn(parameter.shape, generator=drawn) / 4)
