"""A small shop from its raw items to a bundle by the real stages: every kind of field and every side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import torch

from pertinent.data.build import build_dataset, load_dataset
from pertinent.data.config import DataConfig
from pertinent.features.assemble import all_specs
from pertinent.features.encoder import StaticEncoder
from pertinent.features.engagement import item_engagement, passthrough
from pertinent.features.graph import learn_graph
from pertinent.features.interest import learn_interest
from pertinent.features.side import Side
from pertinent.student.dataset import read_catalogue
from pertinent.student.export import TrainedStudent, export_bundle
from pertinent.student.network import StudentHead
from pertinent.student.served import ServedNetwork
from pertinent.teacher.pairs import load_tokenizer
from pertinent.text.build import build_text
from pertinent.text.config import FieldConfig, TextConfig
from pertinent.types import Scale

ITEMS: list[dict[str, Any]] = [
    {
        "item_id": "sofa",
        "title": "Red <b>velvet</b> sofa",
        "description": "Large modern sofa &amp; couch, 24 in",
        "captions": ["red sofa", "velvet couch"],
        "boards": [{"title": "Modern", "count": 3}, {"title": "Rustic", "count": 9}],
        "engaged_queries": [{"query": "red couch", "weight": 2.0}],
        "color": "red",
        "tags": ["large", "modern"],
        "numeric": {"price": 240.0},
        "embedding": [0.5, -1.0],
    },
    {"item_id": "table", "title": "Oak table 24 in", "description": "Rustic", "color": "oak", "numeric": {"price": 90}},
    {"item_id": "rug", "title": "Green wool rug", "color": "green", "tags": ["small"], "embedding": [0.0, 2.0]},
    {"item_id": "lamp", "title": "Small lamp", "link_title": "Small lamp", "color": "red"},
    {"item_id": "none", "title": ""},
]
QUERIES = ("red sofa", "oak table", "small lamp")
_FIELDS = ("title", "description", "captions", "boards", "engaged_queries", "link_title", "color", "tags")


@dataclass(frozen=True)
class Shop:
    """data: the data stage's folder. mined: where rates and engaged queries lie."""

    bundle: Path
    data: Path
    mined: Path


def make_shop(root: Path, tokenizer_file: Path, *, sides: bool = True, seed: int = 0) -> Shop:
    """The stages of ITEMS in ``root``. The network has random weights: nothing was learned, the rest is real."""
    source, data, text, mined = (root / name for name in ("source", "data", "text", "mined"))
    for folder in (source, data, text, mined):
        folder.mkdir(parents=True)
    judgments = [
        {"query": query, "item_id": item["item_id"], "grade": k % 3, "split": split}
        for query, split in zip(QUERIES, ("train", "dev", "test"), strict=True)
        for k, item in enumerate(ITEMS)
    ]
    for name, rows in (("items", ITEMS), ("judgments", judgments)):
        (source / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    scale = Scale(("bad", "fair", "good"))
    build_dataset(DataConfig(reader="folder", path=source, attributes=["color", "tags"], languages=["en"]), data)
    fields = tuple(FieldConfig(name=name, tokens=12) for name in _FIELDS)
    build_text(TextConfig(fields=fields, max_tokens=40), data, text, tokenizer_file=tokenizer_file)
    bundle = root / "bundle"
    bundle.mkdir()
    dataset = load_dataset(data)
    tokenizer = load_tokenizer(tokenizer_file)
    catalogue = read_catalogue(text, tokenizer)
    if sides:
        catalogue = replace(
            catalogue, sides=_sides(mined, dataset.items, catalogue.ids, catalogue.statistics), n_folds=2
        )
    torch.manual_seed(seed)
    n_features = len(all_specs(catalogue.sides))
    mean, std = np.zeros(n_features, dtype=np.float32), np.ones(n_features, dtype=np.float32)
    table = np.random.default_rng(seed).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float16)
    head = StudentHead(8, mean, std, (16,), 3, 0.1)
    trained = TrainedStudent(
        ServedNetwork(head, 1.3, all_specs(catalogue.sides)),
        StaticEncoder(tokenizer, table),
        catalogue,
        tokenizer,
        scale,
    )
    pairs = [(query, item["item_id"], "dev") for query in QUERIES for item in ITEMS]
    probe = pl.DataFrame(pairs, schema=["query", "item_id", "split"], orient="row")
    export_bundle(trained, probe, bundle, dataset=dataset, n_probe=100)
    return Shop(bundle, data, mined)


def _sides(mined: Path, items: pl.DataFrame, ids: list[str], statistics: Any) -> tuple[Side, ...]:
    rates = [(item, version, 9, 0.25) for item in ("sofa", "lamp") for version in (-1, 0, 1)]
    columns = ["item_id", "text_version", "impressions", "rate"]
    pl.DataFrame(rates, schema=columns, orient="row").write_parquet(mined / "item_rates.parquet")
    lists = [("sofa", {"red sofa": 4.0}), ("lamp", {"small lamp": 2.0}), ("table", {"oak table": 1.0})]
    queries = pl.List(pl.Struct({"query": pl.String, "weight": pl.Float64}))
    found = [[{"query": query, "weight": weight} for query, weight in one.items()] for _, one in lists]
    table = pl.DataFrame({"item_id": [item for item, _ in lists], "text_version": [-1] * len(lists)})
    table = table.with_columns(pl.Series("engaged_queries", found, dtype=queries), pl.col("text_version").cast(pl.Int8))
    table.write_parquet(mined / "fields.parquet")
    weights = [("red sofa", "sofa", 2.0), ("oak table", "table", 1.0), ("red sofa", "lamp", 0.5)]
    pairs = pl.DataFrame(weights, schema=["query", "item_id", "weight"], orient="row")
    colours = (
        pl.DataFrame({"item_id": ids}).join(items, on="item_id", how="left", maintain_order="left")["color"].to_list()
    )
    return (
        passthrough(items, ids, ["numeric.price", "embedding"]),
        item_engagement(mined, ids),
        learn_interest(pairs, colours, ids, statistics, 2, "color"),
        learn_graph([mined], ids, statistics, 2, 2),
    )
