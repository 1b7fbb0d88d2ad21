"""Units of labelling: what a failing row, a cache and a kill cost."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

import label_child
from pertinent.errors import DataError, ModelError
from pertinent.files import write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.engine import NOT_FINITE, LocalEngine
from pertinent.labelling.label import label_pairs
from pertinent.labelling.plan import Plan, write_plan
from pertinent.labelling.units import label_units
from pertinent.progress import Progress
from pertinent.teacher.model import Teacher

CONFIG = LabelsConfig(pool_per_query=3, pool_depth=8, random_per_query=1, unit_pairs=8)
KEPT = ("query", "item_id", "text_hash")


class Counting:
    """Labels a pair by the number in its query; -1 raises when seen, -2 gives no number."""

    teacher_id = "counting"

    def __init__(self) -> None:
        self.n_calls = 0

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        self.n_calls += 1
        numbers = np.array([float(query) for query in queries], dtype=np.float32)
        if (numbers == -1).any():
            raise ValueError("poison\nand more")
        high = np.where(numbers == -2, np.nan, numbers / 1000)
        return np.stack([1 - high, high], axis=1).astype(np.float32)


def pairs_of(queries: Sequence[int]) -> pl.DataFrame:
    names = [str(query) for query in queries]
    return pl.DataFrame({"query": names, "item_id": [f"i{k}" for k in range(len(names))]}).with_columns(
        text_hash=pl.lit("h"), text_row=pl.lit(0, pl.UInt32)
    )


def plan_of(pairs: pl.DataFrame, out: Path) -> Plan:
    return write_plan(out / "plan.parquet", pairs, pl.Series(["t"]), unit_pairs=16)


def run(pairs: pl.DataFrame, out: Path, max_failed: float = 0.5) -> tuple[pl.DataFrame, Counting]:
    labeller = Counting()
    plan, engine = plan_of(pairs, out), LocalEngine(labeller)
    return label_units(plan, engine, ("p_1", "p_2"), "counting", out, kept=KEPT, max_failed=max_failed), labeller


class Waiting(Counting):
    """Scores a unit only when the next one has been read, and the one before the last is on disk."""

    def __init__(self, out: Path, n_units: int) -> None:
        super().__init__()
        self.out, self.n_units = out, n_units
        self.read = [threading.Event() for _ in range(n_units + 1)]
        self.read[n_units].set()

    def encode(self, queries: Sequence[str], texts: Sequence[str]) -> tuple[int, list[str]]:
        number = int(queries[0]) // 16
        self.read[number].set()
        return number, list(queries)

    def score_encoded(self, encoded: tuple[int, list[str]], progress: Progress | None = None) -> NDArray[np.float32]:
        number, queries = encoded
        assert self.read[number + 1].wait(10), "the next unit is not read beside the model"
        written = self.out / f"shard-{number - 2:05d}.parquet"
        deadline = time.monotonic() + 10
        while number >= 2 and not written.exists():
            assert time.monotonic() < deadline, "shards are not written beside the model"
            time.sleep(0.005)
        return self.score(queries, queries)


def test_reading_the_model_and_writing_overlap(tmp_path: Path) -> None:
    plan = plan_of(pairs_of(range(16 * 4)), tmp_path)
    labeller = Waiting(tmp_path, 4)
    label_units(plan, LocalEngine(labeller), ("p_1", "p_2"), "waiting", tmp_path, kept=KEPT, max_failed=0.0)
    assert labeller.n_calls == 4
    assert pl.read_parquet(tmp_path / "shard-*.parquet")["query"].to_list() == [str(query) for query in range(64)]


def test_a_unit_is_read_from_the_plan_with_the_texts_of_its_rows(tmp_path: Path) -> None:
    pairs = pairs_of(range(5)).with_columns(text_row=pl.Series([2, 0, 1, 2, 0], dtype=pl.UInt32))
    plan = write_plan(tmp_path / "plan.parquet", pairs, pl.Series(["a", "b", "c"]), unit_pairs=2)
    assert (plan.n_pairs, plan.n_units) == (5, 3)
    assert [plan.unit(number)["text"].to_list() for number in range(3)] == [["c", "a"], ["b", "c"], ["a"]]
    (tmp_path / "plan.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"plan.parquet: not a readable Parquet file"):
        plan.unit(0)


def test_poisonous_rows_are_set_aside_and_all_others_labelled(tmp_path: Path) -> None:
    numbers = [*range(20), -1, *range(20, 40), -2, 40]
    failed, labeller = run(pairs_of(numbers), tmp_path)
    assert failed.select("query", "item_id", "reason").rows() == [
        ("-1", "i20", "ValueError: poison"),
        ("-2", "i41", NOT_FINITE),
    ]
    labels = pl.read_parquet(tmp_path / "shard-*.parquet")
    assert sorted(map(int, labels["query"])) == list(range(41))
    assert labels["p_2"].to_list() == pytest.approx([int(query) / 1000 for query in labels["query"]])
    # 3 units; the one of 16 that fails is halved 4 times, two calls each.
    assert labeller.n_calls == 3 + 2 * 4
    assert pl.read_parquet(tmp_path / "quarantine.parquet").equals(failed)


def test_past_the_budget_the_job_fails_and_keeps_what_is_done(tmp_path: Path) -> None:
    pairs = pairs_of([*range(16), -1, -1, *range(16, 30)])
    with pytest.raises(
        ModelError, match=r"at most 1 pairs to fail \(labels.max_failed\), found 2, .*ValueError: poison$"
    ):
        run(pairs, tmp_path, max_failed=0.04)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plan.parquet", "shard-00000.parquet"]
    failed, labeller = run(pairs, tmp_path, max_failed=0.07)  # a larger budget goes on from there
    assert failed.height == 2
    assert labeller.n_calls < 16


def test_failed_rows_of_an_earlier_start_count(tmp_path: Path) -> None:
    pairs = pairs_of([-1, *range(15), *range(15), -1])
    run(pairs.head(16), tmp_path, max_failed=0.1)
    with pytest.raises(ModelError, match="found 2"):
        run(pairs, tmp_path, max_failed=0.04)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, frame: pl.DataFrame) -> None:
        if path.name.startswith("shard-"):
            raise OSError(28, "No space left on device")
        write_parquet(path, frame)

    monkeypatch.setattr("pertinent.labelling.plan.write_parquet", full)
    with pytest.raises(DataError, match=r"shard-00000.parquet: cannot be written: No space left on device"):
        run(pairs_of([1]), tmp_path)


def labels_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "shard-*.parquet").sort("query", "item_id")


def test_the_cache_gives_what_the_same_teacher_said_of_the_same_text(
    stages: dict[str, Path], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    few = CONFIG.model_copy(update={"log_pairs": 10})
    label_pairs(few, stages["data"], stages["text"], teacher, tmp_path / "first", seed=1)
    label_pairs(CONFIG, stages["data"], stages["text"], teacher, tmp_path / "second", seed=1)
    scored: list[str] = []
    encode = Teacher.encode

    def counted(self: Teacher, queries: Sequence[str], texts: Sequence[str]) -> object:
        scored.extend(queries)
        return encode(self, queries, texts)

    monkeypatch.setattr(Teacher, "encode", counted)
    cached = CONFIG.model_copy(update={"cache": (tmp_path / "first",)})
    result = label_pairs(cached, stages["data"], stages["text"], teacher, tmp_path / "third", seed=1)
    first, second, third = (labels_of(tmp_path / name) for name in ("first", "second", "third"))
    assert third.drop("p_1", "p_2", "p_3").equals(second.drop("p_1", "p_2", "p_3"))
    names = ["p_1", "p_2", "p_3"]
    assert np.abs(third.select(names).to_numpy() - second.select(names).to_numpy()).max() <= 1e-5
    n_known = second.join(first, on=["query", "text_hash"], how="semi").height
    assert result.counts["cached"] == n_known > 0
    assert len(scored) == second.height - n_known

    # Another teacher's labels, or labels of another text, are none.
    for column in ("teacher", "text_hash"):
        other = tmp_path / column
        (other / "cache").mkdir(parents=True)
        first.with_columns(pl.lit("other").alias(column)).write_parquet(other / "cache" / "shard-0.parquet")
        cached = CONFIG.model_copy(update={"cache": (other / "cache",)})
        assert label_pairs(cached, stages["data"], stages["text"], teacher, other, seed=1).counts["cached"] == 0
    (tmp_path / "text_hash" / "cache" / "shard-1.parquet").write_bytes(b"PAR1")
    (tmp_path / "fourth").mkdir()
    with pytest.raises(DataError, match=r"shard-1.parquet: not a readable Parquet file"):
        label_pairs(cached, stages["data"], stages["text"], teacher, tmp_path / "fourth", seed=1)


def test_pairs_of_a_sample_are_labelled_and_held_out_queries_refused(
    stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    about = pl.DataFrame({"query": ["red sofa", "red sofa"], "item_id": ["i03", "i07"]})
    sample = about.with_columns(language=pl.lit("en"), source=pl.lit("bm25"))
    sample.write_parquet(tmp_path / "pairs.parquet")
    _with_rule(stages["data"], tmp_path / "data")
    (tmp_path / "out").mkdir()
    config = CONFIG.model_copy(update={"pairs": tmp_path / "pairs.parquet"})
    label_pairs(config, tmp_path / "data", stages["text"], teacher, tmp_path / "out", seed=1)
    assert labels_of(tmp_path / "out").select("query", "item_id").equals(about)
    held_out = pl.read_parquet(stages["data"] / "judgments.parquet").filter(pl.col("split") == "test")["query"][0]
    pl.concat([sample, sample.with_columns(query=pl.lit(held_out))]).write_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "next").mkdir()
    with pytest.raises(DataError, match=f"expected no held-out query .* found '{held_out}' .1 in all"):
        label_pairs(config, tmp_path / "data", stages["text"], teacher, tmp_path / "next", seed=1)


def _with_rule(data: Path, target: Path) -> None:
    from pertinent.files import read_json, write_json

    target.mkdir()
    for name in ("items", "judgments", "log"):
        (target / f"{name}.parquet").symlink_to(data / f"{name}.parquet")
    rule = {"test": 0.14, "dev": 0.07, "by": "text"}
    write_json(target / "dataset.json", {**read_json(data / "dataset.json"), "split": rule})


@pytest.mark.parametrize("n_kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_rows_of_an_undisturbed_run(
    stages: dict[str, Path], teacher: Path, tmp_path: Path, n_kills: int
) -> None:
    kill_and_compare(stages, teacher, tmp_path, n_kills)


@pytest.mark.slow
def test_killed_with_a_real_teacher_it_ends_with_the_rows_of_an_undisturbed_run(
    stages: dict[str, Path], real_teacher: Path, tmp_path: Path
) -> None:
    kill_and_compare(stages, real_teacher, tmp_path, n_kills=5)


def kill_and_compare(stages: dict[str, Path], teacher: Path, folder: Path, n_kills: int) -> None:
    """Kill a labelling process n times, end its work undisturbed, and compare with a run that was never disturbed."""
    undisturbed, out = folder / "undisturbed", folder / "out"
    undisturbed.mkdir()
    out.mkdir()
    config = CONFIG.model_copy(update={"unit_pairs": 4})
    label_pairs(config, stages["data"], stages["text"], teacher, undisturbed, seed=1)
    n_shards = len(list(undisturbed.glob("shard-*")))
    # Processes forked from one that has imported everything and used nothing: each starts at once, with threads of its own.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["label_child", "transformers.models.bert.modeling_bert"])
    work = (config, stages["data"], stages["text"], teacher, out)
    rng = random.Random(0)
    for kill in range(n_kills):
        child = context.Process(target=label_child.label_slowly, args=work)
        child.start()
        # At a moment of its own within each n-th part of the work.
        wanted = 1 + kill * (n_shards - 4) // n_kills
        while len(list(out.glob("shard-*"))) < wanted and child.is_alive():
            time.sleep(0.002)
        time.sleep(rng.random() * 2 * label_child.PAUSE_S)
        assert child.is_alive(), "the work was over before the kill"
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    assert 0 < len(list(out.glob("shard-*"))) < n_shards
    label_pairs(*work, seed=1)
    expected, found = labels_of(undisturbed), labels_of(out)
    names = ["p_1", "p_2", "p_3"]
    assert found.drop(names).equals(expected.drop(names))
    assert found.select("query", "item_id").is_unique().all()
    assert np.abs(found.select(names).to_numpy() - expected.select(names).to_numpy()).max() <= 1e-5
