from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.adhoc import text_inputs
from pertinent.errors import ConfigError
from pertinent.serving import feature_log
from pertinent.serving.bundles import Loaded
from pertinent.serving.feature_log import PATTERN, FeatureLog, Served, prepare_folder
from pertinent.serving.scoring import score_documents
from pertinent.serving.stores.embedded import EmbeddedStore

IDS = ["i3", "nowhere", None, "i0"]
TEXTS = [None, None, "Small lamp", None]


@pytest.fixture(scope="module")
def scorer(bundles: tuple[Path, Path]) -> Scorer:
    return open_bundle(bundles[0])


def served(scorer: Scorer, request: str = "r1", bundle: str = "b") -> Served:
    loaded = Loaded(scorer, Path("bundle"), bundle, EmbeddedStore(scorer))
    found = score_documents(loaded, "red sofa", IDS, TEXTS, 100)
    return Served(bundle, scorer.feature_names, request, "/v1/rerank", "red sofa", IDS, TEXTS, found)


@pytest.fixture
def told() -> Counter[str]:
    return Counter()


@pytest.fixture
def log(tmp_path: Path, told: Counter[str]) -> Iterator[Callable[..., FeatureLog]]:
    opened: list[FeatureLog] = []

    def count(outcome: str, rows: int) -> None:
        told[outcome] += rows

    def start(**limits: Any) -> FeatureLog:
        sizes: Any = {"rows_a_file": 1_000, "seconds_a_file": 60.0, "queue_rows": 1_000, **limits}
        opened.append(FeatureLog(tmp_path, count, **sizes))
        opened[-1].begin()
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN))


def test_a_row_holds_what_the_network_read_and_said(scorer: Scorer) -> None:
    frame = served(scorer).frame()
    assert frame["item_id"].to_list() == IDS
    assert frame["text"].to_list() == TEXTS
    assert frame["index"].to_list() == [0, 1, 2, 3]
    assert frame["request_id"].unique().to_list() == ["r1"]
    stored = scorer.inputs("red sofa", np.array([scorer.row_of["i3"], scorer.row_of["i0"]]))
    written = text_inputs(scorer, "red sofa", ["Small lamp"])
    features = frame["features"].struct.unnest()
    assert tuple(features.columns) == scorer.feature_names
    assert features.dtypes == [pl.Float32] * len(scorer.feature_names)
    assert np.array_equal(features[[0, 3]].to_numpy(), stored[2])
    assert np.array_equal(features[[2]].to_numpy(), written[2])
    assert frame[[0, 3]].select("p_1", "p_2", "p_3").to_numpy() == pytest.approx(scorer.run(*stored), abs=1e-6)
    unknown = frame.row(1, named=True)
    assert unknown["features"] is None
    assert unknown["p_1"] is unknown["relevance"] is None


def test_a_file_is_written_at_its_rows_its_age_or_the_end(
    scorer: Scorer, log: Callable[..., FeatureLog], tmp_path: Path, told: Counter[str]
) -> None:
    by_rows = log(rows_a_file=8)
    by_rows.offer(served(scorer, "a"))
    time.sleep(0.05)
    assert not files(tmp_path)
    by_rows.offer(served(scorer, "b"))
    until(lambda: told["written"] == 8)
    assert len(files(tmp_path)) == 1
    by_age = log(seconds_a_file=0.05)
    by_age.offer(served(scorer, "c"))
    until(lambda: told["written"] == 12)
    at_the_end = log()
    at_the_end.offer(served(scorer, "d"))
    at_the_end.close()
    assert told == {"written": 16}
    assert {name for file in files(tmp_path) for name in pl.read_parquet(file)["request_id"]} == set("abcd")
    assert [file for file in tmp_path.iterdir() if file not in files(tmp_path)] == []


def test_a_file_holds_one_bundle(scorer: Scorer, log: Callable[..., FeatureLog], tmp_path: Path) -> None:
    one = log()
    for bundle in ("b", "c", "c"):
        one.offer(served(scorer, bundle=bundle))
    one.close()
    found = sorted(pl.read_parquet(file)["bundle"].to_list() for file in files(tmp_path))
    assert found == [["b"] * 4, ["c"] * 8]


def test_a_slow_disk_drops_rows_and_holds_nobody_up(
    scorer: Scorer, log: Callable[..., FeatureLog], told: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write = threading.Event(), feature_log.write_parquet

    def slow(path: Path, frame: pl.DataFrame) -> None:
        assert go.wait(10)
        write(path, frame)

    monkeypatch.setattr(feature_log, "write_parquet", slow)
    one, asked = log(rows_a_file=4, queue_rows=12), served(scorer)
    for _ in range(10):
        one.offer(asked)
    # While nothing can be written, 12 rows wait or are being written; the other 7 requests of 4 are dropped.
    assert told == {"dropped": 28}
    go.set()
    until(lambda: told["written"] == 12)
    one.offer(asked)
    until(lambda: told["written"] == 16)


def test_a_full_disk_drops_rows_is_told_once_and_is_written_again(
    scorer: Scorer,
    log: Callable[..., FeatureLog],
    tmp_path: Path,
    told: Counter[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "gone"  # a real OSError: the folder is not there
    one = FeatureLog(
        folder,
        lambda outcome, rows: told.update({outcome: rows}),
        rows_a_file=4,
        seconds_a_file=60,
        queue_rows=100,
    )
    one.begin()
    for rows in (4, 8):
        one.offer(served(scorer))
        until(lambda rows=rows: told["dropped"] == rows)  # type: ignore[misc]
    folder.mkdir()
    one.offer(served(scorer))
    until(lambda: told["written"] == 4)
    one.close()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"feature log: {folder}: cannot be written: No such file")
    assert said[1] == f"feature log: {folder}: written again"


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"feature log: .*file/log: cannot be written"):
        prepare_folder(tmp_path / "file" / "log")


def test_what_a_killed_worker_left_half_written_is_removed_when_old(tmp_path: Path) -> None:
    import os

    old, fresh = (tmp_path / f".features-{name}.parquet.1.partial" for name in ("old", "fresh"))
    for file in (old, fresh):
        file.touch()
    os.utime(old, (1, 1))
    prepare_folder(tmp_path)
    assert not old.exists()
    assert fresh.exists()
