"""Scores that a stranger brings for a run's held-out judgments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from pertinent.data.build import load_dataset
from pertinent.data.trec import write_trec_run
from pertinent.errors import DataError
from pertinent.evaluation.classification import auroc
from pertinent.pipeline import load_run_config, run_pipeline
from pertinent.pipeline.evaluate import evaluate_scores
from pertinent.pipeline.pairs import read_pairs

PROBABILITIES = [f"p_{k}" for k in range(1, 6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a run on judgments whose item ids are numbers."""
    folder = tmp_path_factory.mktemp("numbered")
    items = [{"item_id": k, "title": f"red sofa {k}"} for k in range(20)]
    judgments = [
        {"query": f"query {q}", "item_id": (q + k) % 20, "grade": (k + q) % 5} for q in range(60) for k in range(6)
    ]
    for name, rows in (("items", items), ("judgments", judgments)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    config = folder / "run.yaml"
    config.write_text(f"name: numbered\noutput: {folder / 'runs'}\ndata: {{path: .}}\n")
    return Path(run_pipeline(load_run_config(config), until="data")["run"]) / "data"


@pytest.fixture(scope="module")
def held_out(data: Path) -> pl.DataFrame:
    """The dev and test judgments, with a score that follows the grade and probabilities of the same order."""
    pairs = load_dataset(data).judgments.filter(pl.col("split") != "train")
    noise = np.random.default_rng(0).normal(0, 1.5, pairs.height)
    seen = pairs["grade"].to_numpy() + noise
    logits = -((np.arange(5) - seen[:, None]) ** 2) / 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(PROBABILITIES)]
    return pairs.with_columns(pl.Series("score", seen), *columns)


def write(file: Path, rows: pl.DataFrame) -> Path:
    if file.suffix == ".parquet":
        rows.write_parquet(file)
    elif file.suffix == ".csv":
        rows.write_csv(file, separator=";")
    else:
        rows.write_ndjson(file)
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("as_number", [False, True])
def test_scores_are_measured_whatever_the_file_and_the_type_of_ids(
    data: Path, held_out: pl.DataFrame, tmp_path: Path, suffix: str, as_number: bool
) -> None:
    ids = pl.col("item_id").cast(pl.Int64) if as_number else pl.col("item_id")
    table = write(tmp_path / f"scores{suffix}", held_out.select("query", ids, "score"))
    found = evaluate_scores(table, data, resamples=0)["systems"]["scores"]  # type: ignore[index]
    test = held_out.filter(pl.col("split") == "test")
    assert found["auroc_4+"] == pytest.approx(auroc(test["grade"] >= 3, test["score"]))
    assert found["accuracy"] is not None  # by the map fitted on dev


def test_a_run_folder_stands_for_its_data(data: Path, held_out: pl.DataFrame, tmp_path: Path) -> None:
    table = write(tmp_path / "scores.parquet", held_out)
    assert evaluate_scores(table, data.parent, resamples=0) == evaluate_scores(table, data, resamples=0)


def test_a_trec_run_measures_as_the_same_table(data: Path, held_out: pl.DataFrame, tmp_path: Path) -> None:
    write_trec_run(held_out.select("query_id", "item_id", "score"), tmp_path / "scores.run", "scores")
    table = write(tmp_path / "scores.csv", held_out.select("query", "item_id", "score"))
    found = evaluate_scores(tmp_path / "scores.run", data, resamples=0)
    assert found["systems"] == evaluate_scores(table, data, resamples=0)["systems"]


def test_a_score_beside_probabilities_orders(data: Path, held_out: pl.DataFrame, tmp_path: Path) -> None:
    test = held_out.filter(pl.col("split") == "test").with_columns(score=-pl.col("score"))
    both = write(tmp_path / "scores.parquet", test.select("query", "item_id", "score", *PROBABILITIES))
    found = evaluate_scores(both, data, resamples=0)["systems"]["scores"]  # type: ignore[index]
    alone = write(tmp_path / "alone.parquet", test.select("query", "item_id", *PROBABILITIES))
    other = evaluate_scores(alone, data, resamples=0)["systems"]["scores"]  # type: ignore[index]
    assert found["pair_accuracy"] == pytest.approx(1 - other["pair_accuracy"], abs=0.01)
    assert found["auroc_4+"] == other["auroc_4+"]  # by P(grade >= L4)


def test_with_probabilities_only_the_test_split_is_needed(data: Path, held_out: pl.DataFrame, tmp_path: Path) -> None:
    test = held_out.filter(pl.col("split") == "test").select("query", "item_id", *PROBABILITIES)
    found = evaluate_scores(write(tmp_path / "scores.parquet", test), data, resamples=0)["systems"]["scores"]  # type: ignore[index]
    assert found["n_pairs"] == test.height
    assert found["ece"] is not None


def test_without_probabilities_the_dev_split_is_needed_and_the_line_says_why(
    data: Path, held_out: pl.DataFrame, tmp_path: Path
) -> None:
    test = held_out.filter(pl.col("split") == "test").select("query", "item_id", "score")
    with pytest.raises(DataError, match=r"score for each of \d+ dev pairs.*the map from scores to grades is fitted on"):
        evaluate_scores(write(tmp_path / "scores.parquet", test), data, resamples=0)


Change = Callable[[pl.DataFrame], pl.DataFrame]
HOLE: Change = lambda rows: rows.with_columns(  # noqa: E731
    p_3=pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise("p_3")
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("score", *PROBABILITIES), "expected a column score, or p_1..p_n, found query, item_id"),
        (lambda rows: rows.drop("p_2", "p_5"), "probabilities of 5 grades, found no p_2, p_5"),
        (lambda rows: rows.rename({"query": "q"}), "expected the columns item_id and query or query_id, found q, "),
        (lambda rows: rows.head(-1), r"for each of \d+ test pairs, found none for 1, first \('query "),
        (HOLE, r"for each of \d+ test pairs, found none for 1, first"),
        (lambda rows: pl.concat([rows, rows.head(1)]), "expected one row a pair, found .* more than once"),
        (lambda rows: rows.with_columns(p_1=2.0), "probabilities must be at least 0 and sum to 1"),
    ],
)
def test_a_table_that_does_not_fit_is_one_clear_line(
    data: Path, held_out: pl.DataFrame, tmp_path: Path, change: Change, message: str
) -> None:
    rows = held_out.filter(pl.col("split") == "test").select("query", "item_id", "score", *PROBABILITIES)
    table = write(tmp_path / "scores.parquet", change(rows))
    with pytest.raises(DataError, match=message) as error:
        evaluate_scores(table, data, resamples=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.jsonl", '{"query": "a", "item_id": 1, "score": "good"}\n', r"scores.jsonl:1: score must be a number"),
        ("scores.csv", "query,item_id,score\na,1,.5\nb,2,?\n", r"scores.csv:3: score must be a number, got '\?'"),
        ("scores.jsonl", '{"query": "a"\n', "scores.jsonl:1: none of the 1 rows can be read"),
        ("scores.jsonl", '{"query": "a", "item_id": 1}\nnonsense\n', "scores.jsonl:2: row must be a JSON object"),
        ("scores.parquet", "no Parquet", "not a readable Parquet file"),
        ("scores.xlsx", "x", "scores.xlsx:1: expected QUERY Q0 ITEM RANK SCORE TAG"),
        ("nowhere.jsonl", None, "nowhere.jsonl: no such file"),
        ("nowhere.parquet", None, "nowhere.parquet: no such file"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_clear_line(
    data: Path, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        evaluate_scores(tmp_path / name, data, resamples=0)
    assert "\n" not in str(error.value)


def test_a_pair_without_a_query_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("query,item_id\nsofa,1\n ,2\n")
    with pytest.raises(DataError, match=r"pairs.csv:3: query must not be empty"):
        read_pairs(tmp_path / "pairs.csv")


def test_pairs_keep_their_other_columns_and_empty_numbers_are_null(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("query,item_id,score,note\n sofa ,007,,x\nlamp,8,.5,y\n")
    found = read_pairs(tmp_path / "pairs.csv", numbers=("score", "p_1"))
    expected: dict[str, list[Any]] = {"query": ["sofa", "lamp"], "item_id": ["007", "8"]}
    assert found.to_dict(as_series=False) == {**expected, "score": [None, 0.5], "note": ["x", "y"]}
