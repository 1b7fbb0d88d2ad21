"""From a query string and candidates by ID to calibrated probabilities, on one core, against what else would be run.

    python benchmarks/student_speed.py

A store of a million generated items (a title of 4 to 14 words and a description of 5 to 40, of a vocabulary with Zipf's
frequencies), made once into the user's cache by `pertinent student index` from a bundle of 20,000 of them: about 10
minutes. The network has the default size and random weights, its tokenizer is e5's: neither changes what a request costs.
Rows 100, 500 and 5000 (candidates), a process each, pinned to one core, about 5 minutes each. In a row all systems take
turns on the same requests, in an order that changes:

student           the whole: IDs looked up, features, network. features and network are its two parts, timed apart.
lightgbm          the same features by the same code, then 500 trees of 63 leaves; lightgbm_model: the trees alone.
mlp               a plain ONNX network of the same layers on ready-made vectors and features, nothing folded or looked up.
gather            the bare copy of the candidates' stored vectors out of the store.
cross_encoder     MiniLM-L6 in ONNX int8 with a fresh head, on the texts of at most 100 of the candidates, pairs/s.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common import (
    Target,
    measure_rows,
    peak_memory_bytes,
    run_main,
)
from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.store import TEXTS, ItemStore, mapped_bytes
from pertinent.files import atomic_path, cache_folder, read_json, read_parquet, write_json

SEED = 0
N_ITEMS, N_BASE = 1_000_000, 20_000
N_QUICK, N_QUICK_BASE = 3_000, 600
CANDIDATES = (100, 500, 5000)
CROSS_ENCODER_PAIRS = 100  # of a request: more are the same work again
HIDDEN, DIMENSIONS, N_GRADES = (256, 128), 64, 5
COLUMNS = (
    "student_p50_ms",
    "student_p99_ms",
    "lightgbm_p50_ms",
    "mlp_p50_ms",
    "gather_p50_ms",
    "cross_encoder_pairs_per_s",
    "times_cross_encoder",
    "store_bytes_per_item",
    "store_open_ms",
)
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in ("a", "e", "i", "o", "u", "an", "er", "in", "ol")]
_VOCABULARY = 60_000


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows("student_speed", __doc__, rows_of, targets, columns=COLUMNS, seeds=[SEED])


def rows_of(quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    return {str(n): partial(measure, n, quick=quick) for n in CANDIDATES}


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Those of the student's issue."""
    middle = rows.get("500", {})
    return [
        Target("500 candidates from query string to probabilities, p50 ms", 3.0, "<=", middle.get("student_p50_ms")),
        Target("the same, p99 ms", 5.0, "<=", middle.get("student_p99_ms")),
        Target("pairs/s over those of an int8 cross-encoder", 1000.0, ">=", middle.get("times_cross_encoder")),
        Target("bytes an item in the store", 1024.0, "<=", middle.get("store_bytes_per_item")),
        Target("opening the store, ms", 1000.0, "<=", middle.get("store_open_ms")),
    ]


def measure(n_candidates: int, *, quick: bool) -> dict[str, Any]:
    """One row."""
    bundle = prepared(quick=quick)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    figures: dict[str, Any] = {"candidates": n_candidates, **opening(bundle)}
    scorer = open_bundle(bundle)
    asked = requests_of(scorer, n_candidates, 8 if quick else 400)
    for query, ids in asked[:5]:
        scorer.score(query, ids)
    figures["student_peak_gib"] = round(peak_memory_bytes() / 2**30, 2)  # before the others are there
    systems = systems_of(scorer, asked, quick=quick)
    spent: dict[str, list[float]] = {name: [] for name in systems}
    chance = random.Random(SEED)
    for place in range(len(asked)):
        for name in chance.sample(list(systems), len(systems)):
            began = time.perf_counter()
            systems[name](place)
            spent[name].append((time.perf_counter() - began) * 1000)
    kept = {name: values[max(len(values) // 20, 1) :] for name, values in spent.items()}  # the first ones warm up
    for name, values in kept.items():
        figures |= {f"{name}_p50_ms": centile(values, 50), f"{name}_p99_ms": centile(values, 99)}
    figures |= cross_encoder(bundle, asked, min(n_candidates, CROSS_ENCODER_PAIRS), quick=quick)
    figures["student_pairs_per_s"] = round(n_candidates / figures["student_p50_ms"] * 1000)
    ratio = figures["student_pairs_per_s"] / figures["cross_encoder_pairs_per_s"]
    return {**figures, "times_cross_encoder": round(ratio), "requests": len(kept["student"])}


def centile(values: list[float], q: int) -> float:
    """Of milliseconds."""
    return round(float(np.percentile(values, q)), 3)


def opening(bundle: Path) -> dict[str, Any]:
    """Sizes, and the median of five openings of the store alone and of the whole bundle with its checks."""
    description = read_json(bundle / "bundle.json")
    name = description["store"]

    def median_ms(work: Callable[[], object]) -> float:
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            work()
            spent.append((time.perf_counter() - began) * 1000)
        return round(float(np.median(spent)), 2)

    return {
        "items": description["n_items"],
        "vectors": description["vectors"]["precision"],
        "vector_bytes_per_item": description["vectors"]["bytes_per_item"],
        "store_bytes_per_item": round(mapped_bytes(bundle / name) / description["n_items"], 1),
        "store_open_ms": median_ms(lambda: ItemStore.open(bundle, name)),
        "bundle_open_ms": median_ms(lambda: open_bundle(bundle)),
        **read_json(bundle / "made.json"),
    }


def requests_of(scorer: Scorer, n_candidates: int, n: int) -> list[tuple[str, list[str]]]:
    """Queries of one to five words, each with random items of the whole store."""
    words, rng = Words(), np.random.default_rng(SEED + 2)
    ids = list(scorer.row_of)
    queries = [words.text(rng, int(rng.integers(1, 6))) for _ in range(n)]
    return [(query, [ids[i] for i in rng.integers(0, len(ids), n_candidates)]) for query in queries]


def systems_of(
    scorer: Scorer, asked: list[tuple[str, list[str]]], *, quick: bool
) -> dict[str, Callable[[int], object]]:
    """name -> what it does with the request at a place."""
    rows = [scorer.row_of.find(ids) for _, ids in asked]
    inputs = [scorer.inputs(query, at) for (query, _), at in zip(asked, rows, strict=True)]
    ready = [plain_inputs(scorer, query, at) for (query, _), at in zip(asked, rows, strict=True)]
    trees = lightgbm_model(np.concatenate([one[2] for one in inputs])[: 2_000 if quick else 50_000], quick=quick)
    plain = plain_session(ready[0].shape[1])

    def features(place: int) -> NDArray[np.float32]:
        query, ids = asked[place]
        return scorer.inputs(query, scorer.row_of.find(ids))[2]

    return {
        "student": lambda place: scorer.score(*asked[place]),
        "features": features,
        "network": lambda place: scorer.run(*inputs[place]),
        "lightgbm": lambda place: trees.predict(features(place), num_threads=1),
        "lightgbm_model": lambda place: trees.predict(inputs[place][2], num_threads=1),
        "mlp": lambda place: plain.run(None, {"pairs": ready[place]}),
        "gather": lambda place: scorer.item_vectors.take(rows[place]),
    }


def plain_inputs(scorer: Scorer, query: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """All that the unfolded first layer would read of each pair: (C, 4 d + 1 + F)."""
    vector, items, features = scorer.inputs(query, rows, halves=False)
    cosine = items @ vector.T
    wide = np.broadcast_to(vector, items.shape)
    return np.concatenate([wide, items, np.abs(wide - items), wide * items, cosine, features], axis=1)


def lightgbm_model(features: NDArray[np.float32], *, quick: bool) -> Any:
    """500 trees of 63 leaves on these features and grades that hang on them a little."""
    import lightgbm

    rng = np.random.default_rng(SEED)
    grades = features @ rng.normal(size=features.shape[1]) + rng.normal(size=features.shape[0])
    options = {"num_leaves": 63, "num_threads": 1, "verbose": -1, "seed": SEED, "min_data_in_leaf": 5}
    return lightgbm.train(options, lightgbm.Dataset(features, grades), 20 if quick else 500)


def plain_session(width: int) -> Any:
    """The layers of the student as one ONNX network on ready-made inputs."""
    import tempfile
    import warnings

    import torch
    from torch import nn

    from pertinent.features.session import open_session

    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for units in HIDDEN:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    network = nn.Sequential(*layers, nn.Linear(width, N_GRADES), nn.Softmax(dim=1)).eval()
    sample = torch.zeros(2, network[0].in_features)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = Path(folder) / "mlp.onnx"
        torch.onnx.export(
            network, (sample,), str(file), dynamo=False, opset_version=17, input_names=["pairs"],
            output_names=["probs"], dynamic_axes={"pairs": {0: "n"}, "probs": {0: "n"}},
        )  # fmt: skip
        return open_session(file)


def cross_encoder(bundle: Path, asked: list[tuple[str, list[str]]], n_pairs: int, *, quick: bool) -> dict[str, float]:
    """Pairs per second of MiniLM-L6 int8, from texts to logits, the median over requests; tokenising included."""
    import tempfile

    import torch

    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.config import TeacherConfig
    from pertinent.teacher.engines import OnnxEngine, export_onnx
    from pertinent.teacher.model import score_rows
    from pertinent.teacher.pairs import PairEncoder, load_tokenizer
    from pertinent.teacher.train import new_network
    from teacher_models import minilm_folder

    torch.set_num_threads(1)
    config = TeacherConfig(backbone=minilm_folder(), max_tokens=96)
    backbone = resolve_backbone(config.backbone)
    network = new_network(backbone, config, N_GRADES, SEED)
    tokenizer = load_tokenizer(backbone.tokenizer_file)
    encoder = PairEncoder.of_encoder(tokenizer, 96, config.max_query_tokens, segments=network.config.segments)
    store = bundle / read_json(bundle / "bundle.json")["store"]
    texts = read_parquet(store / TEXTS, ["item_id", "text"])
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(network, Path(folder) / "model.onnx", int8=True)
        engine = OnnxEngine(Path(folder) / "model.onnx")
    rates = []
    for query, ids in asked[: 2 if quick else 12]:
        wanted = pl.DataFrame({"item_id": ids[: 10 if quick else n_pairs]})
        own = wanted.join(texts, on="item_id", how="left", maintain_order="left")["text"].to_list()
        began = time.perf_counter()
        score_rows(engine, encoder.encode([query] * len(own), own).rows, 0, 4096)
        rates.append(len(own) / (time.perf_counter() - began))
    return {"cross_encoder_pairs_per_s": round(float(np.median(rates[1:])), 1)}


@dataclass
class Words:
    """A made-up language: words of one to four syllables and numbers with units, the k-th with weight 1 / k."""

    def __post_init__(self) -> None:
        chance = random.Random(SEED)
        made: dict[str, None] = {}
        while len(made) < _VOCABULARY:
            if chance.random() < 0.05:
                made[f"{chance.randint(1, 400)} {chance.choice(('in', 'ft', 'mm', 'oz', 'v'))}"] = None
            made["".join(chance.choices(_SYLLABLES, k=chance.choice((1, 2, 2, 3, 3, 4))))] = None
        self.words = np.array(list(made)[:_VOCABULARY], dtype=object)
        weights = 1.0 / np.arange(1, self.words.size + 1)
        self.edges = np.cumsum(weights / weights.sum())

    def text(self, rng: np.random.Generator, n_words: int) -> str:
        """Words drawn by their weight."""
        return " ".join(self.words[np.minimum(np.searchsorted(self.edges, rng.random(n_words)), self.words.size - 1)])

    def items(self, n: int) -> pl.DataFrame:
        """item_id, title, description; the first rows are the same whatever n."""
        rng = np.random.default_rng(SEED + 1)
        titles, bodies = [], []
        for _ in range(n):
            titles.append(self.text(rng, int(rng.integers(4, 15))))
            bodies.append(self.text(rng, int(rng.integers(5, 41))))
        return pl.DataFrame({"item_id": [f"sku-{k:08d}" for k in range(n)], "title": titles, "description": bodies})


def prepared(*, quick: bool) -> Path:
    """The bundle, from the user's cache, or made there."""
    from pertinent.pipeline.revision import code_revision

    n_items, n_base = (N_QUICK, N_QUICK_BASE) if quick else (N_ITEMS, N_BASE)
    folder = cache_folder() / "benchmarks" / f"student-speed-{n_items}-{code_revision()[:12]}"
    if not (folder / "bundle" / "made.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            make(temporary, n_items, n_base)
    return folder / "bundle"


def make(folder: Path, n_items: int, n_base: int) -> None:
    """A bundle of the first n_base items by the real stages, then its store for all of them, in a process of its own."""
    from common import run_child

    items = Words().items(n_items)
    items.write_parquet(folder / "items.parquet")
    base_bundle(folder, items.head(n_base))
    code = "import sys; from pathlib import Path; from pertinent.student.index import index_items\n"
    code += "index_items(Path(sys.argv[1]), Path(sys.argv[2]))"
    done = run_child([sys.executable, "-c", code, str(folder / "bundle"), str(folder / "items.parquet")])
    (folder / "items.parquet").unlink()
    figures = {"index_items_per_s": round((n_items - n_base) / done.seconds)}
    write_json(folder / "bundle" / "made.json", {**figures, "index_peak_gib": round(done.peak_bytes / 2**30, 2)})


def base_bundle(folder: Path, items: pl.DataFrame) -> None:
    """folder/bundle, with a network of random weights whose features are standardised over random pairs."""
    import torch

    from pertinent.data.build import build_dataset, load_dataset
    from pertinent.data.config import DataConfig
    from pertinent.features.assemble import all_specs
    from pertinent.features.encoder import StaticEncoder
    from pertinent.student.dataset import pair_rows, read_catalogue
    from pertinent.student.export import TrainedStudent, export_bundle
    from pertinent.student.network import StudentHead
    from pertinent.student.served import ServedNetwork
    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.pairs import load_tokenizer
    from pertinent.text.build import build_text
    from pertinent.text.config import TextConfig

    source, data, text, bundle = (folder / name for name in ("source", "data", "text", "bundle"))
    for made in (source, data, text, bundle):
        made.mkdir()
    items.write_parquet(source / "items.parquet")
    words, rng = Words(), np.random.default_rng(SEED + 3)
    ids = items["item_id"].to_list()
    queries = [words.text(rng, 3) for _ in range(60)]
    pairs = [(query, ids[i]) for query in queries for i in rng.integers(0, len(ids), 10)]
    judged = pl.DataFrame(pairs, schema=["query", "item_id"], orient="row").unique(maintain_order=True)
    judged.with_columns(grade=pl.int_range(pl.len()) % N_GRADES).write_parquet(source / "judgments.parquet")
    build_dataset(DataConfig(reader="folder", path=source, languages=["en"]), data)
    tokenizer_file = resolve_backbone("packaged:multilingual-e5-small").tokenizer_file
    build_text(TextConfig(), data, text, tokenizer_file=tokenizer_file)
    dataset, tokenizer = load_dataset(data), load_tokenizer(tokenizer_file)
    catalogue = read_catalogue(text, tokenizer)
    probe = judged.with_columns(split=pl.lit("dev"))
    features = pair_rows(probe, catalogue, "probe").features
    torch.manual_seed(SEED)
    table = (rng.normal(size=(tokenizer.get_vocab_size(), DIMENSIONS)) / DIMENSIONS**0.5).astype(np.float16)
    moments = features.mean(axis=0), features.std(axis=0)
    assert features.shape[1] == len(all_specs())
    head = StudentHead(DIMENSIONS, *moments, HIDDEN, N_GRADES, 0.0)
    model = ServedNetwork(head, 1.0, all_specs())
    trained = TrainedStudent(model, StaticEncoder(tokenizer, table), catalogue, tokenizer, dataset.scale)
    export_bundle(trained, probe, bundle, dataset=dataset, n_probe=500)


if __name__ == "__main__":
    run_main(main)
