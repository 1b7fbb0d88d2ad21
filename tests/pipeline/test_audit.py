"""The audit of a log that the real app wrote from a finished run's bundle, and the fidelity of that student to its teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from starlette.testclient import TestClient

from pertinent.bundle import bundle_folder, open_bundle
from pertinent.errors import DataError, ModelError
from pertinent.evaluation.statistics import value_of
from pertinent.pipeline.audit import Tolerance, audit
from pertinent.pipeline.fidelity import Probs, fidelity, live_fidelity, sampled
from pertinent.serving.app import create_app
from pertinent.serving.bundles import hash_of, start
from pertinent.serving.feature_log import PATTERN
from pertinent.serving.settings import Settings

if TYPE_CHECKING:
    from conftest import FinishedRun

Edit = Callable[[pl.DataFrame], pl.DataFrame]
QUERIES = ("red sofa", "oak lamp modern", "blue rug", "green coat large")


@pytest.fixture(scope="module")
def log(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four requests of 30 stored items, one of texts and an unknown item; all logged, in files of about two requests."""
    folder, control = tmp_path_factory.mktemp("log"), tmp_path_factory.mktemp("control")
    bundle = bundle_folder(finished_run.folder)
    settings = Settings(bundle=bundle, feature_log=folder, feature_log_share=1.0, feature_log_rows=60)
    ids = list(open_bundle(bundle).row_of)
    start(settings, control)
    with TestClient(create_app(settings, control)) as client:
        for k, query in enumerate(QUERIES):
            body = {"query": query, "item_ids": ids[k * 20 : k * 20 + 30]}
            assert client.post("/v1/score", json=body).status_code == 200
        documents = ["red velvet sofa", {"id": "nowhere"}, {"id": ids[0], "text": "not read"}]
        assert client.post("/v1/rerank", json={"query": "sofa", "documents": documents}).status_code == 200
    return folder


@pytest.fixture
def edited(log: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """A copy of the log with every file changed."""

    def copy(edit: Edit) -> Path:
        folder = Path(shutil.copytree(log, tmp_path / "edited"))
        for file in folder.glob(PATTERN):
            edit(pl.read_parquet(file)).write_parquet(file)
        return folder

    return copy


def test_what_was_served_is_what_the_bundle_gives(log: Path, finished_run: FinishedRun) -> None:
    found = audit(log, finished_run.folder)
    assert found["bundle"] == hash_of(finished_run.folder / "student")
    assert (found["requests"], found["rows"]) == (5, 123)
    assert found["files"] > 1
    assert (found["compared"], found["unknown_when_served"], found["unknown_to_the_bundle"]) == (122, 0, 0)
    assert list(found["features"]) == list(open_bundle(finished_run.folder).feature_names)
    assert list(found["probabilities"]) == [f"p_{k}" for k in range(1, 6)]
    assert max(told["max_difference"] for told in found["features"].values()) <= 1e-6
    assert found["from"] <= found["to"]
    assert not found["skew"]
    assert found["skewed"] == []


def test_a_feature_that_was_served_otherwise_is_named_with_its_difference(
    edited: Callable[[Edit], Path], finished_run: FinishedRun
) -> None:
    name = open_bundle(finished_run.folder).feature_names[3]

    def stale(rows: pl.DataFrame) -> pl.DataFrame:
        moved = pl.col("features").struct.field(name) + 0.25
        first = pl.col("query") == QUERIES[0]
        return rows.with_columns(
            features=pl.when(first).then(pl.col("features").struct.with_fields(moved.alias(name))).otherwise("features")
        )

    folder = edited(stale)
    found = audit(folder, finished_run.folder)
    told = found["features"][name]
    # 30 of the 122 rows that have features, each 0.25 off.
    assert told["max_difference"] == pytest.approx(0.25, abs=1e-6)
    assert told["mean_difference"] == pytest.approx(0.25 * 30 / 122, abs=1e-6)
    assert told["share"] == pytest.approx(30 / 122)
    assert found["skewed"] == [name]
    assert found["skew"]
    assert not audit(folder, finished_run.folder, Tolerance(features=0.3))["skew"]
    assert not audit(folder, finished_run.folder, Tolerance(share=0.25))["skew"]
    assert audit(folder, finished_run.folder, Tolerance(share=0.24))["skew"]


def test_items_that_one_side_did_not_have_are_skew(edited: Callable[[Edit], Path], finished_run: FinishedRun) -> None:
    first, query = pl.col("index") == 0, pl.col("query") == QUERIES[0]

    def edit(rows: pl.DataFrame) -> pl.DataFrame:
        columns = ("features", "relevance", *(f"p_{k}" for k in range(1, 6)))
        gone = [pl.when(~(first & query)).then(pl.col(name)).alias(name) for name in columns]
        renamed = pl.when((pl.col("index") < 2) & (pl.col("query") == QUERIES[1])).then(pl.lit("sold"))
        return rows.with_columns(*gone, item_id=renamed.otherwise("item_id"))

    found = audit(edited(edit), finished_run.folder)
    assert (found["unknown_when_served"], found["unknown_to_the_bundle"]) == (1, 2)
    assert found["skewed"] == ["unknown_when_served", "unknown_to_the_bundle"]


def test_rows_of_another_bundle_are_counted_and_a_log_of_them_alone_refused(
    edited: Callable[[Edit], Path], finished_run: FinishedRun
) -> None:
    other = pl.when(pl.col("query") == QUERIES[0]).then(pl.lit("f" * 64)).otherwise("bundle")
    folder = edited(lambda rows: rows.with_columns(bundle=other))
    assert audit(folder, finished_run.folder)["other_bundles"] == {"f" * 64: 30}
    for file in folder.glob(PATTERN):
        pl.read_parquet(file).with_columns(bundle=pl.lit("e" * 64)).write_parquet(file)
    with pytest.raises(DataError, match=r"expected rows of bundle \w{12} .*, found e{12}$"):
        audit(folder, finished_run.folder)


def test_files_that_are_no_feature_log_are_refused(tmp_path: Path, finished_run: FinishedRun) -> None:
    with pytest.raises(DataError, match=r"expected a feature log, found no features-\*.parquet"):
        audit(tmp_path, finished_run.folder)
    file = tmp_path / "features-1.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"features-1\.parquet: not a readable Parquet file"):
        audit(tmp_path, finished_run.folder)
    pl.DataFrame({"query": ["a"]}).write_parquet(file)
    with pytest.raises(DataError, match="expected a file of a feature log, found no column time"):
        audit(tmp_path, finished_run.folder)


def test_fidelity_by_hand_and_by_oracles() -> None:
    # Three pairs of two grades; likeliest by the teacher 1, 0, 1, by the student 1, 1, 1.
    teacher = np.array([[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    student = np.array([[0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    found = fidelity(Probs(student, teacher, np.array([0, 0, 1]), np.array([0, 0, 1])))
    value = {name: value_of(statistic) for name, statistic in found.items()}
    assert value["agreement"] == pytest.approx(2 / 3)
    by_hand = (0.2 * np.log(0.5) + 0.8 * np.log(4 / 3) + 0.6 * np.log(2) + 0.4 * np.log(4 / 7)) / 3
    assert value["kl_nats"] == pytest.approx(by_hand)
    # Positives are pairs 0 and 2 at 0.6 and 0.9, the negative is at 0.7: one of two pairs in order.
    assert value["auroc_2+"] == pytest.approx(0.5)
    assert value["rank_correlation"] == pytest.approx(-1.0)  # of the first request; the other has a single pair

    chance = np.random.default_rng(0)
    teacher, student = chance.dirichlet(np.ones(4), 200), chance.dirichlet(np.ones(4), 200)
    requests = np.repeat(np.arange(20), 10)
    found = fidelity(Probs(student, teacher, requests // 2, requests))
    top = teacher.argmax(axis=1)
    for k in range(1, 4):
        wanted = roc_auc_score(top >= k, student[:, k:].sum(axis=1))
        assert value_of(found[f"auroc_{k + 1}+"]) == pytest.approx(wanted)
    kl = stats.entropy(teacher, student, axis=1).mean()
    assert value_of(found["kl_nats"]) == pytest.approx(kl)
    gains = np.array([0, 1, 3, 7])
    each = [stats.spearmanr((student @ gains)[requests == r], (teacher @ gains)[requests == r])[0] for r in range(20)]
    assert value_of(found["rank_correlation"]) == pytest.approx(np.mean(each))


def test_the_sample_takes_at_most_twenty_of_a_request_and_is_the_same_for_a_seed() -> None:
    rows = pl.DataFrame({"request_id": [f"r{k // 50}" for k in range(500)], "index": [k % 50 for k in range(500)]})
    drawn = sampled(rows, 60, seed=3)
    assert drawn.group_by("request_id").len()["len"].to_list() == [20] * 3
    assert drawn.unique().height == 60
    assert drawn.equals(sampled(rows, 60, seed=3))
    assert not drawn.equals(sampled(rows, 60, seed=4))
    assert drawn["index"].max() > 19  # of a request any candidate, not the first ones
    assert sampled(rows, 10_000, seed=0).height == 200


def test_the_teacher_scores_a_sample_again(log: Path, finished_run: FinishedRun) -> None:
    teacher, text = finished_run.folder / "teacher", finished_run.folder / "text"
    found = live_fidelity(log, finished_run.folder, teacher, text, sample=1_000)
    assert (found["pairs"], found["requests"], found["queries"]) == (81, 5, 5)
    assert found["without_text"] == 1  # the text that was sent along
    # This teacher finds one grade the likeliest throughout, so no AUROC is defined; the student learned as much.
    assert found["fidelity"]["agreement"] == 1.0
    assert found["fidelity"]["auroc_2+"] is None
    assert 0 < found["fidelity"]["kl_nats"] < 0.1
    assert -1 <= found["fidelity"]["rank_correlation"] <= 1
    low, high = found["intervals"]["kl_nats"]
    assert low <= found["fidelity"]["kl_nats"] <= high


def test_the_teachers_probabilities_are_its_own(edited: Callable[[Edit], Path], finished_run: FinishedRun) -> None:
    """Where the log holds the teacher's own probabilities, the two are the same."""
    from pertinent.teacher.saving import load_teacher
    from pertinent.text.item_texts import ItemTexts

    model, texts = load_teacher(finished_run.folder / "teacher"), ItemTexts.read(finished_run.folder / "text")

    def own(rows: pl.DataFrame) -> pl.DataFrame:
        held = rows.filter(pl.col("item_id").is_in(texts.served["item_id"].to_list()))
        probs = model.score(held["query"].to_list(), texts.of_items(held["item_id"]))
        return held.with_columns(pl.Series(f"p_{k + 1}", probs[:, k]) for k in range(5))

    folder = edited(own)
    found = live_fidelity(
        folder, finished_run.folder, finished_run.folder / "teacher", finished_run.folder / "text", sample=50
    )
    assert found["fidelity"]["kl_nats"] == pytest.approx(0.0, abs=1e-4)
    assert found["fidelity"]["agreement"] == 1.0
    assert found["fidelity"]["rank_correlation"] == pytest.approx(1.0, abs=1e-3)


def test_a_teacher_of_another_scale_is_refused(edited: Callable[[Edit], Path], finished_run: FinishedRun) -> None:
    folder = edited(lambda rows: rows.drop("p_5"))
    with pytest.raises(ModelError, match="expected a teacher of 4 grades, found 5"):
        live_fidelity(
            folder, finished_run.folder, finished_run.folder / "teacher", finished_run.folder / "text", sample=5
        )


def test_the_command_exits_1_on_skew_and_prints_one_document(
    log: Path,
    edited: Callable[[Edit], Path],
    finished_run: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> None:
    from pertinent.cli.app import main

    def run(*arguments: object) -> tuple[int, bytes]:
        monkeypatch.setattr("sys.argv", ["pertinent", "audit", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, capfdbinary.readouterr().out

    code, out = run(log, finished_run.folder, "--teacher", finished_run.folder, "--sample", 40)
    assert code == 0
    assert orjson.loads(out)["live"]["pairs"] >= 40
    monkeypatch.setattr("pertinent.cli.audit.wants_json", lambda asked: False)
    code, out = run(log, finished_run.folder, "--teacher", finished_run.folder, "--sample", 40)
    assert code == 0
    assert b"skew: none" in out
    assert b"rank_correlation" in out
    folder = edited(lambda rows: rows.with_columns(p_2=pl.col("p_2") + 0.5))
    code, out = run(folder, finished_run.folder)
    assert code == 1
    assert b"skew: p_2" in out
    for file in folder.glob(PATTERN):  # as with Redis: nothing is left to compare, which is no audit that was passed
        pl.read_parquet(file).with_columns(from_store=pl.lit(value=True)).write_parquet(file)
    code, out = run(folder, finished_run.folder)
    assert code == 1
    assert b"compared: 0" in out
    assert run(log, finished_run.folder, "--teacher", finished_run.folder, "--engine", "steam")[0] == 2
