"""Stages of item fields between data and text: a small real one that mines the queries of relevant judgments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.bundle import open_bundle
from pertinent.config import Config
from pertinent.data.build import load_dataset
from pertinent.data.splits import cross_folds
from pertinent.errors import ConfigError
from pertinent.features.lexical import FEATURE_NAMES
from pertinent.files import read_json
from pertinent.pipeline import field_stages as fields_module
from pertinent.pipeline import run_pipeline
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.field_stages import FieldStage
from pertinent.student.dataset import pair_rows, read_catalogue
from pertinent.teacher.pairs import load_tokenizer
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult

WEIGHTS = pl.Struct({"query": pl.String, "weight": pl.Float64})


class TinyMineConfig(Config):
    n_folds: int = 3
    least_grade: int = 2


class RunWithMine(RunConfig):
    mine: TinyMineConfig | None = None


def mine(config: TinyMineConfig, data: Path, out: Path, *, seed: int) -> StageResult:
    """The training queries of an item's relevant judgments; version k has none of fold k."""
    judged = load_dataset(data).judgments.filter(pl.col("split") == "train")
    engaged = judged.filter(pl.col("grade") >= config.least_grade)
    engaged = engaged.with_columns(fold=cross_folds(engaged["query"], config.n_folds))
    items = engaged.select("item_id").unique()
    parts = []
    for version in range(-1, config.n_folds):
        kept = engaged.filter(pl.col("fold") != version).sort("query")
        entry = pl.struct("query", pl.lit(1.0).alias("weight")).alias("engaged_queries")
        mined = items.join(kept.group_by("item_id").agg(entry), on="item_id", how="left")
        empty = pl.col("engaged_queries").fill_null(pl.lit([], dtype=pl.List(WEIGHTS)))
        parts.append(mined.select("item_id", pl.lit(version, pl.Int8).alias("text_version"), empty))
    table = pl.concat(parts).sort("item_id", "text_version")
    table.write_parquet(out / "fields.parquet")
    return StageResult({"rows": table.height})


@pytest.fixture
def with_mine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stage is known under the section mine; the list is what its further inputs hash to."""
    told = ["one"]
    stage = FieldStage(mine, lambda config, data, *, seed: {"log": told[0]})
    monkeypatch.setitem(fields_module.FIELD_STAGES, "mine", lambda: stage)
    return told


def config_of(settings: Callable[..., dict[str, Any]], **sections: Any) -> RunWithMine:
    text = {"fields": [{"name": "title", "tokens": 12}, {"name": "engaged_queries", "tokens": 20}], "max_tokens": 40}
    return RunWithMine.model_validate(settings(text=text, **sections))


def keys_of(config: RunConfig, until: str) -> dict[str, str]:
    return {name: manifest["key"] for name, manifest in run_pipeline(config, until=until)["stages"].items()}


@pytest.fixture
def source(small_run: Path) -> Path:
    return small_run


def test_a_section_is_a_stage_before_text_and_its_change_redoes_the_text(
    settings: Callable[..., dict[str, Any]], source: Path, with_mine: list[str]
) -> None:
    without = keys_of(config_of(settings), "text")
    first = keys_of(config_of(settings, mine={}), "text")
    assert list(first) == ["data", "mine", "text"]
    assert keys_of(config_of(settings, mine={}), "text") == first
    changed = keys_of(config_of(settings, mine={"least_grade": 4}), "text")
    with_mine[0] = "two"
    other_log = keys_of(config_of(settings, mine={}), "text")
    assert without["data"] == first["data"] == changed["data"] == other_log["data"]
    assert len({keys["mine"] for keys in (first, changed, other_log)}) == 3
    assert len({keys["text"] for keys in (without, first, changed, other_log)}) == 4
    assert list(keys_of(config_of(settings, mine={}), "mine")) == ["data", "mine"]


def test_a_stage_that_the_run_does_not_have_is_refused(settings: Callable[..., dict[str, Any]], source: Path) -> None:
    expected = r"^--until: expected one of data, text, teacher, labels, student, evaluation, found mine$"
    with pytest.raises(ConfigError, match=expected):
        run_pipeline(config_of(settings), until="mine")


def test_the_chain_reads_no_pair_with_its_own_query(
    settings: Callable[..., dict[str, Any]], source: Path, with_mine: list[str]
) -> None:
    config = config_of(settings, mine={})
    run_pipeline(config)
    folder = config.folder
    texts = ItemTexts.read(folder / "text", ("text", "text_hash"))
    assert texts.n_folds == 3
    judged = load_dataset(folder / "data").judgments
    relevant = judged.filter(pl.col("grade") >= 2)

    def tells(pairs: pl.DataFrame, column: list[str]) -> int:
        """Pairs whose text lists the pair's own query as an engaged one."""
        listed = [text.partition("engaged queries: ")[2].split(", ") for text in column]
        return sum(query in queries for query, queries in zip(pairs["query"], listed, strict=True))

    train = relevant.filter(pl.col("split") == "train")
    assert tells(train, texts.of_items(train["item_id"])) > 10  # what serving reads would tell the answer
    assert tells(train, texts.of_pairs(train)) == 0

    # The labels were made on those texts, by their hash, and the student's features match on them too.
    labels = pl.concat([pl.read_parquet(shard) for shard in sorted((folder / "labels").glob("shard-*"))])
    expected = texts.joined(labels.select("query", "item_id").with_columns(split=pl.lit("train")))
    assert labels["text_hash"].to_list() == expected["text_hash"].to_list()
    assert (
        labels["text_hash"] != texts.served[texts.rows_of(labels.with_columns(split=pl.lit("dev")))]["text_hash"]
    ).any()
    tokenizer = load_tokenizer(folder / "labels" / "tokenizer.json")
    catalogue = read_catalogue(folder / "text", tokenizer)
    soft = labels.select("query", "item_id")
    column = FEATURE_NAMES.index("body.phrase")
    own = soft.join(train, on=["query", "item_id"], how="semi")
    fair = pair_rows(own.with_columns(split=pl.lit("train")), catalogue, "label").features[:, column]
    leaking = pair_rows(own.with_columns(split=pl.lit("test")), catalogue, "label").features[:, column]
    assert fair.mean() < leaking.mean() == 1.0

    # What is served is the served text, each item once.
    bundle = open_bundle(folder)
    assert list(bundle.row_of) == texts.served["item_id"].to_list()
    assert bundle.statistics.n_items == len(bundle.item_vectors) == len(bundle.lexical.terms["body"]) == 96
    metrics = read_json(folder / "evaluation" / "metrics.json")
    held_out = judged.filter(pl.col("split") == "test").height
    assert {metrics["systems"][name]["n_pairs"] for name in ("bm25", "teacher", "student")} == {held_out}
    # So small a set moves the student's by .3 with the draw of its first weights; the teacher's does not hang on that.
    assert metrics["systems"]["teacher"]["auroc_3+"] > 0.8

    assert "titles and descriptions" not in (folder / "report.html").read_text()
    assert "queries that led to engagement" in (folder / "report.html").read_text()
