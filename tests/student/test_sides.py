"""Features from tables through the whole stage: trained, exported, verified, and the same offline as online."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.adhoc import text_inputs
from pertinent.bundle.verify import verify_bundle
from pertinent.data.splits import cross_folds
from pertinent.errors import ConfigError, ModelError
from pertinent.features.assemble import all_specs, text_features
from pertinent.features.corpus import LexicalItems
from pertinent.files import read_json
from pertinent.student import prepare as preparing
from pertinent.student.config import FeaturesConfig, StudentConfig
from pertinent.student.dataset import Catalogue, pair_rows
from pertinent.student.train import train_student

FEATURES = FeaturesConfig(columns=("numeric.price", "embedding"), interest="kind", engagement=True, graph=4)
CONFIG = StudentConfig(
    features=FEATURES, dimensions=16, hidden=(16,), epochs=1, batch_size=64, dropout=0.1, probe_pairs=20
)


@dataclass(frozen=True)
class Made:
    out: Path
    scorer: Scorer
    catalogue: Catalogue


def write_mined(folder: Path, items: pl.DataFrame) -> Path:
    """Each item was engaged with for its own title; version k is without the titles of fold k."""
    folder.mkdir()
    titles = items["title"]
    folds = cross_folds(titles, 5).to_list()
    item_rates, fields = [], []
    for k, (item, title, fold) in enumerate(zip(items["item_id"], titles, folds, strict=True)):
        rate = (k + 1) / 100
        item_rates += [(item, version, 2 * k, k, rate + 0.001 * version) for version in range(-1, 5)]
        entry = {"query": title, "weight": 1.0 + k}
        fields += [(item, -1, [entry]), (item, fold, [])]
    counts = ["impressions", "actions", "rate"]
    pl.DataFrame(item_rates, schema=["item_id", "text_version", *counts], orient="row").write_parquet(
        folder / "item_rates.parquet"
    )
    schema = {
        "item_id": pl.String,
        "text_version": pl.Int8,
        "engaged_queries": pl.List(pl.Struct({"query": pl.String, "weight": pl.Float64})),
    }
    pl.DataFrame(fields, schema=schema, orient="row").write_parquet(folder / "fields.parquet")
    return folder


@pytest.fixture(scope="module")
def folders(stages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stages of conftest.py, whose items have more columns."""
    root = tmp_path_factory.mktemp("sides")
    (root / "data").mkdir()
    for file in stages["data"].iterdir():
        (root / "data" / file.name).write_bytes(file.read_bytes())
    items = pl.read_parquet(root / "data" / "items.parquet")
    price = pl.Series("numeric.price", [None if k % 7 == 0 else float(k) for k in range(items.height)])
    vectors = pl.Series(
        "embedding", np.random.default_rng(3).normal(size=(items.height, 3)).astype(np.float32).tolist()
    )
    items.with_columns(price, vectors, kind=pl.col("title").str.split(" ").list.last()).write_parquet(
        root / "data" / "items.parquet"
    )
    write_mined(root / "mine", items)
    return {**stages, "data": root / "data", "mine": root / "mine"}


def train(folders: dict[str, Path], out: Path, config: StudentConfig = CONFIG) -> None:
    stages = {name: folders[name] for name in ("data", "text", "labels")}
    train_student(config, **stages, out=out, seed=2, mined={"mine": folders["mine"]})


@pytest.fixture(scope="module")
def made(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("bundle")
    kept: list[Catalogue] = []
    sides = preparing.with_sides

    def watched(*arguments: object) -> Catalogue:
        kept.append(sides(*arguments))  # type: ignore[arg-type]
        return kept[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preparing, "with_sides", watched)
        train(folders, out)
    return Made(out, open_bundle(out), kept[0])


def test_every_side_is_declared_and_passes_the_parity_gate(made: Made) -> None:
    names = [feature["name"] for feature in read_json(made.out / "bundle.json")["features"]]
    assert names == [spec.name for spec in all_specs(made.catalogue.sides)] == list(made.scorer.feature_names)
    sources = {name.split(".")[0] for name in names}
    assert {"title", "body", "column", "engagement", "interest", "graph"} <= sources
    assert len(names) == len(set(names))
    assert verify_bundle(made.out)["features"] <= 1e-6


QUERIES = st.text(max_size=30) | st.sampled_from(
    ["", "red sofa", "RED  sofa", "oak table 24 in", "x" * 10_000, "椅子 ผ้า خشب"]
)


@settings(max_examples=60, deadline=None)
@given(QUERIES, st.lists(st.integers(0, 59), min_size=1, max_size=8))
def test_features_are_equal_offline_and_online(made: Made, query: str, rows: list[int]) -> None:
    pairs = pl.DataFrame({"query": [query] * len(rows), "item_id": [f"i{k:02d}" for k in rows]})
    offline = pair_rows(pairs.with_columns(split=pl.lit("test")), made.catalogue, "test")
    online = made.scorer.inputs(query, np.array(rows, dtype=np.int64))
    assert np.isfinite(offline.features).all()
    assert (offline.features == online[2]).all()
    probs = made.scorer.run(*online)
    assert probs.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)


def test_a_text_has_the_defaults_of_tables_and_what_they_say_of_the_query(made: Made) -> None:
    probs = made.scorer.run(*text_inputs(made.scorer, "red sofa", ["red sofa", "oak table"]))
    assert probs.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    names = made.scorer.feature_names
    texts = LexicalItems.of({"title": ["red sofa"], "body": [""]}, made.scorer.statistics)
    found = dict(
        zip(names, text_features("red sofa", texts, made.scorer.statistics, made.scorer.sides)[0], strict=True)
    )
    stored = dict(zip(names, made.scorer.inputs("red sofa", np.array([3]))[2][0], strict=True))
    defaults = {spec.name: spec.default for spec in all_specs(made.scorer.sides)}
    for name in ("column.numeric.price", "engagement.item_log_rate", "interest.share", "graph.known"):
        assert found[name] == pytest.approx(defaults[name])
    assert found["interest.entropy"] == stored["interest.entropy"] > 0


def test_training_pairs_read_what_knows_nothing_of_their_query(made: Made) -> None:
    pairs = pl.DataFrame({"query": ["red sofa"], "item_id": [made.catalogue.ids[0]]})
    names = made.scorer.feature_names
    fair, served = (
        dict(zip(names, pair_rows(pairs.with_columns(split=pl.lit(split)), made.catalogue, "t").features[0], strict=True))
        for split in ("train", "test")
    )  # fmt: skip
    fold = int(cross_folds(pairs["query"], 5)[0])
    assert fair["engagement.item_log_rate"] == pytest.approx(np.log(0.01 + 0.001 * fold), rel=1e-5)
    assert served["engagement.item_log_rate"] == pytest.approx(np.log(0.009), rel=1e-5)
    assert (fair["graph.known"], served["graph.known"]) == (0, 1)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (FeaturesConfig(engagement=True), "student.features.engagement: expected a section mine"),
        (FeaturesConfig(graph=4), "student.features.graph: expected a section mine or boards"),
        (FeaturesConfig(interest="colour"), r"expected a text column of items\.parquet \(.*title.*\), found colour"),
    ],
)
def test_a_side_without_a_source_is_refused(
    stages: dict[str, Path], tmp_path: Path, features: FeaturesConfig, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        train_student(CONFIG.model_copy(update={"features": features}), **stages, out=tmp_path, seed=2)


def test_a_side_of_another_version_is_refused(made: Made, tmp_path: Path) -> None:
    from pertinent.bundle.sides import read_sides

    shutil.copytree(made.out, tmp_path / "bundle")
    file = tmp_path / "bundle" / "sides" / "sides.json"
    file.write_text(file.read_text().replace('"interest"', '"mood"'))
    with pytest.raises(ModelError, match="expected one of columns, interest, graph, found mood"):
        read_sides(tmp_path / "bundle", "items")


def test_stored_halves_are_those_that_the_features_give(made: Made) -> None:
    """Item columns, rates and the graph's flag are in the stored half; the network reads the others from the pair."""
    rows = np.arange(60)
    query, items, features = made.scorer.inputs("red sofa", rows)
    vectors = made.scorer.inputs("red sofa", rows, halves=False)[1]
    assert (vectors.shape[1], items.shape[1]) == (16, 16 + 16)
    moved = np.abs(made.scorer.run(query, vectors, features) - made.scorer.run(query, items, features))
    assert moved.max() < 1e-4  # what another rounding of a half may do
    column = made.scorer.feature_names.index("column.numeric.price")
    features[:, column] += 50
    assert (made.scorer.run(query, items, features) == made.scorer.run(*made.scorer.inputs("red sofa", rows))).all()
    assert np.abs(made.scorer.run(query, vectors, features) - made.scorer.run(query, items, features)).max() > 1e-3
