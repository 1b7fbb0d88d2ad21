"""Labelling by workers of Ray: the same labels as in one process, whatever dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import label_child
import label_numbers
from pertinent.errors import ConfigError, ModelError
from pertinent.labelling.config import LabelsConfig, RayConfig
from pertinent.labelling.label import label_pairs
from pertinent.labelling.plan import KEPT, PLAN, Plan, write_plan
from pertinent.labelling.ray_engine import Cluster, RayEngine, ray_cluster
from pertinent.labelling.units import label_units

pytest.importorskip("ray", reason="Ray is not installed: pip install 'pertinent[ray]'")
CONFIG = LabelsConfig(pool_per_query=3, pool_depth=8, random_per_query=1, unit_pairs=8)
WORKERS = RayConfig(workers=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster on this machine for all of these tests, which they find as one that is there already."""
    with pytest.MonkeyPatch.context() as patch:
        support = str(Path(label_child.__file__).parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([support, *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("RAY_worker_niceness", "0")  # else a busy machine starves them
        with ray_cluster(WORKERS):
            yield


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder


def run(numbers: Sequence[int], out: Path, engine: RayEngine, max_failed: float = 0.5) -> pl.DataFrame:
    pairs = pl.DataFrame({"query": [str(n) for n in numbers], "item_id": [f"i{k}" for k in range(len(numbers))]})
    pairs = pairs.with_columns(text_hash=pl.lit("h"), text_row=pl.lit(0, pl.UInt32))
    plan = write_plan(out / "plan.parquet", pairs, pl.Series(["t"]), unit_pairs=8)
    kept = ("query", "item_id", "text_hash")
    return label_units(plan, engine, ("p_1", "p_2"), "numbers", out, kept=kept, max_failed=max_failed)


def numbers_of(out: Path) -> list[int]:
    labels = pl.read_parquet(out / "shard-*.parquet")
    assert labels["p_2"].to_list() == pytest.approx([int(query) / 1000 for query in labels["query"]])
    return sorted(map(int, labels["query"]))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("name", "tolerance"), [("teacher", 1e-5), ("half_teacher", 1e-2)])
def test_the_labels_are_those_of_one_process(
    stages: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path, name: str, tolerance: float
) -> None:
    teacher = request.getfixturevalue(name)
    tables, results = {}, {}
    for engine in ("local", "ray"):
        (tmp_path / engine).mkdir()
        config = CONFIG.model_copy(update={"engine": engine, "ray": WORKERS})
        results[engine] = label_pairs(config, stages["data"], stages["text"], teacher, tmp_path / engine, seed=1)
        tables[engine] = [pl.read_parquet(shard) for shard in sorted((tmp_path / engine).glob("shard-*.parquet"))]
    names = ["p_1", "p_2", "p_3"]
    assert len(tables["ray"]) == len(tables["local"]) > 4
    for here, there in zip(tables["local"], tables["ray"], strict=True):
        assert there.drop(names).equals(here.drop(names))
        assert np.abs(there.select(names).to_numpy() - here.select(names).to_numpy()).max() <= tolerance
    assert results["ray"].counts == results["local"].counts


class Killer:
    """Kills the youngest process of ``pids`` each time that so many more shards are there."""

    def __init__(self, out: Path, pids: Path, n_kills: int, shards_between: int) -> None:
        self.out, self.pids, self.n_kills, self.between = out, pids, n_kills, shards_between
        self.killed: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while len(self.killed) < self.n_kills and not self._stop.wait(0.01):
            alive = sorted(self.pids.iterdir(), key=lambda file: file.stat().st_mtime_ns)
            pids = [int(file.name) for file in alive if int(file.name) not in self.killed]
            if pids and len(list(self.out.glob("shard-*"))) >= self.between * (1 + len(self.killed)):
                os.kill(pids[-1], signal.SIGKILL)
                self.killed.append(pids[-1])


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("n_kills", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_a_killed_worker_is_replaced_and_its_units_done_elsewhere(tmp_path: Path, pids: Path, n_kills: int) -> None:
    numbers = range(8 * 3 * (2 + n_kills))
    with Killer(tmp_path, pids, n_kills, shards_between=3) as killer:
        failed = run(numbers, tmp_path, RayEngine(partial(label_numbers.Numbers, pids, 0.1), WORKERS))
    assert len(killer.killed) == n_kills
    assert failed.height == 0
    assert numbers_of(tmp_path) == list(numbers)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_workers_with_a_real_teacher_are_killed_and_the_labels_stay(
    stages: dict[str, Path], real_teacher: Path, tmp_path: Path, pids: Path
) -> None:
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
    folders = (stages["data"], stages["text"], real_teacher)
    config = CONFIG.model_copy(update={"unit_pairs": 2})
    label_pairs(config, *folders, tmp_path / "local", seed=1)
    names = ("p_1", "p_2", "p_3")
    texts = pl.read_parquet(stages["text"] / "items.parquet")["text"]
    plan = Plan(tmp_path / "local" / PLAN, texts, 2)
    engine = RayEngine(partial(label_child.open_teacher, real_teacher, pids), WORKERS)
    with Killer(tmp_path / "ray", pids, n_kills=2, shards_between=3) as killer:
        label_units(plan, engine, names, "real", tmp_path / "ray", kept=KEPT, max_failed=0.0)
    assert len(killer.killed) == 2
    here, there = (pl.read_parquet(tmp_path / name / "shard-*.parquet") for name in ("local", "ray"))
    assert there.select(KEPT).equals(here.select(KEPT))
    assert np.abs(there.select(names).to_numpy() - here.select(names).to_numpy()).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_rows_that_raise_and_a_row_that_kills_its_worker_are_set_aside(
    tmp_path: Path, pids: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = [*range(11), -3, *range(11, 20), -1, *range(20, 30)]
    failed = run(numbers, tmp_path, RayEngine(partial(label_numbers.Numbers, pids), WORKERS))
    reasons = dict(failed.select("query", "reason").iter_rows())
    assert reasons.keys() == {"-1", "-3"}
    assert reasons["-1"] == "ValueError: poison"
    assert reasons["-3"].startswith("worker died: ActorDiedError: ")
    assert numbers_of(tmp_path) == list(range(30))
    assert "a worker died" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_past_the_budget_it_ends_in_one_line_and_keeps_what_is_done(tmp_path: Path, pids: Path) -> None:
    engine = RayEngine(partial(label_numbers.Numbers, pids), RayConfig(workers=1))
    numbers = [*range(40), -1, -1, *range(40, 46)]
    with pytest.raises(ModelError, match=r"at most 1 pairs to fail .*, found 2, the last by: ValueError: poison$"):
        run(numbers, tmp_path, engine, max_failed=0.03)
    assert len(list(tmp_path.glob("shard-*"))) >= 1
    run(numbers, tmp_path, engine)
    assert numbers_of(tmp_path) == list(range(46))


def _no_teacher() -> Any:
    raise ModelError("teacher: expected a teacher folder, found none")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_workers_that_cannot_start_end_it_with_their_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="workers to start, found 3 fail in turn: teacher: expected a teacher folder"):
        run(range(8), tmp_path, RayEngine(_no_teacher, WORKERS))


@pytest.mark.usefixtures("cluster")
def test_a_cluster_without_room_for_a_worker_is_a_config_error(tmp_path: Path, pids: Path) -> None:
    engine = RayEngine(partial(label_numbers.Numbers, pids), RayConfig(cpus=64))
    with pytest.raises(ConfigError, match="expected room for a worker of 64 cores and 0 GPUs, found 2 cores"):
        run(range(8), tmp_path, engine)


class Ref:
    """What a fake worker will answer. turn: those of a lower one are done first."""

    def __init__(self, turn: int, work: Callable[[], Any]) -> None:
        self.turn, self.work = turn, work


class FakeActor:
    """A worker that labels rows by 0.5, or one that dies as it opens, or over its first piece."""

    def __init__(self, dies: str = "") -> None:
        self.dies = dies
        self.open = self.label = self

    def remote(self, *arguments: Any) -> Ref:
        if not arguments:
            return Ref(0 if self.dies else 2, partial(self._done, "open", None))
        n = len(arguments[0])
        labels = np.full((n, 2), 0.5, dtype=np.float32), [None] * n
        return Ref(1 if self.dies else 3, partial(self._done, "label", labels))

    def _done(self, what: str, result: Any) -> Any:
        if self.dies == what:
            raise FakeRay.exceptions.RayError("the node is gone")
        return result


class FakeRay:
    """As much of Ray as the engine uses, without processes."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    @staticmethod
    def wait(refs: list[Ref], num_returns: int) -> tuple[list[Ref], list[Ref]]:
        return [min(refs, key=lambda ref: ref.turn)], []

    @staticmethod
    def get(ref: Ref) -> Any:
        return ref.work()

    @staticmethod
    def kill(actor: FakeActor) -> None:
        pass


def run_faked(
    monkeypatch: pytest.MonkeyPatch, out: Path, n_rows: int, n_workers: int, dies: str, n_doomed: float
) -> pl.DataFrame:
    started: list[FakeActor] = []

    def start(open_labeller: Any) -> FakeActor:
        started.append(FakeActor(dies if len(started) < n_doomed else ""))
        return started[-1]

    fake = nullcontext(Cluster(FakeRay, n_workers, start))
    monkeypatch.setattr("pertinent.labelling.ray_engine.ray_cluster", lambda config: fake)
    return run(range(n_rows), out, RayEngine(_no_teacher, WORKERS), max_failed=1.0)


@pytest.mark.parametrize("dies", ["open", "label"])
def test_a_node_may_take_many_workers_with_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    failed = run_faked(monkeypatch, tmp_path, n_rows=8 * 200, n_workers=60, dies=dies, n_doomed=60)
    assert failed.height == 0
    assert pl.read_parquet(tmp_path / "shard-*.parquet").height == 8 * 200


@pytest.mark.parametrize(
    ("dies", "told"), [("open", "start, found 6 fail in turn"), ("label", "live, found 101 die one after the other")]
)
def test_workers_that_always_die_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str, told: str) -> None:
    with pytest.raises(ModelError, match=f"{told}: RayError: the node is gone"):
        run_faked(monkeypatch, tmp_path, n_rows=8 * 20, n_workers=2, dies=dies, n_doomed=float("inf"))
