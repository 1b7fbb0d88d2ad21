"""A judge in the labels stage: its shards, its budget, and kills."""

from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import judge_child
from faulty_server import Server
from judge_answers import certain, completion, grade_number, pair_of
from pertinent.errors import ConfigError, DataError, StoppedError
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.pipeline.field_stages import key_settings
from pertinent.pipeline.labelling import label_inputs
from pertinent.types import StageResult

NAMES = ["p_1", "p_2", "p_3"]


def config_of(server: Server, folder: Path, max_failed: float = 0.001, **changes: Any) -> LabelsConfig:
    endpoint = {"base_url": f"{server.url}/v1", "model": "tiny", "concurrency": 2}
    judge = {"endpoint": endpoint, "cache": folder / "cache", "retry": {"attempts": 2, "base_s": 0.01}, **changes}
    sizes = {"pool_per_query": 3, "pool_depth": 8, "random_per_query": 1, "unit_pairs": 16}
    return LabelsConfig.model_validate({**sizes, "max_failed": max_failed, "judge": judge})


def labelled(config: LabelsConfig, stages: dict[str, Path], teacher: Path, out: Path) -> StageResult:
    out.mkdir(exist_ok=True)
    return label_pairs(config, stages["data"], stages["text"], teacher, out, seed=1)


def labels_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "shard-*.parquet").sort("query", "item_id")


def require_what_was_answered(labels: pl.DataFrame, text: Path) -> None:
    texts = dict(pl.read_parquet(text / "items.parquet").select("item_id", "text").iter_rows())
    for row in labels.iter_rows(named=True):
        grade = grade_number(row["query"], texts[row["item_id"]])
        assert row[f"p_{grade}"] == pytest.approx(0.75)
        assert row[f"p_{grade % 3 + 1}"] == pytest.approx(0.25)


def test_a_judge_writes_shards_as_a_teacher_does(
    server: Server, stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    server.answer = certain
    result = labelled(config_of(server, tmp_path), stages, teacher, tmp_path / "out")
    labels = labels_of(tmp_path / "out")
    require_what_was_answered(labels, stages["text"])
    assert labels.schema["p_1"] == pl.Float32
    assert labels["teacher"].unique().to_list() == [result.counts["teacher"]]
    assert str(result.counts["teacher"]).startswith("tiny@")
    assert result.counts["judge"]["calls"] == labels.height == len(server.asked)
    assert (tmp_path / "out" / "token_vectors.npy").is_file()
    # The cache of labels serves a judge as it serves a teacher.
    cached = config_of(server, tmp_path / "elsewhere").model_copy(update={"cache": (tmp_path / "out",)})
    assert labelled(cached, stages, teacher, tmp_path / "again").counts["cached"] == labels.height
    assert len(server.asked) == labels.height


def test_an_answer_that_is_no_grade_goes_to_quarantine(
    server: Server, stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    silly = ("red sofa", "title: red sofa")
    server.answer = lambda body: completion("no") if pair_of(body) == silly else certain(body)
    result = labelled(config_of(server, tmp_path, max_failed=0.05), stages, teacher, tmp_path / "out")
    aside = pl.read_parquet(tmp_path / "out" / "quarantine.parquet")
    assert aside["query"].to_list() == ["red sofa"]
    assert result.quarantined == {"the answer must be one of 1, 2, 3, got 'no'": 1}
    assert result.counts["pairs"] == len(server.asked) - 2


def test_the_spend_limit_ends_the_stage_and_a_higher_one_continues_it(
    server: Server, stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    server.answer = certain
    out, prices = tmp_path / "out", {"usd_per_1k_input": 0.1, "usd_per_1k_output": 0.0}
    low, high = (config_of(server, tmp_path, max_usd=limit, **prices) for limit in (0.5, 50))
    with pytest.raises(StoppedError, match=r"labels.judge.max_usd"):
        labelled(low, stages, teacher, out)
    first = len(server.asked)
    assert 16 < first <= 50
    assert len(list(out.glob("shard-*"))) >= 1
    assert key_settings("labels", low) == key_settings("labels", high)
    result = labelled(high, stages, teacher, out)
    require_what_was_answered(labels_of(out), stages["text"])
    assert len(server.asked) == result.counts["pairs"]  # none was asked for twice
    assert result.counts["judge"]["usd"] == pytest.approx(0.01 * len(server.asked))


def test_a_ledger_that_cannot_be_written_is_one_line_and_no_pair_is_set_aside(
    server: Server, stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def answer(body: dict[str, Any]) -> Any:
        if len(server.asked) == 20:
            (out / "spend.jsonl").unlink()
            (out / "spend.jsonl").mkdir()
        return certain(body)

    server.answer = answer
    with pytest.raises(DataError, match=r"spend.jsonl: cannot be written: Is a directory$"):
        labelled(config_of(server, tmp_path, max_failed=1.0), stages, teacher, out)
    assert not list(out.glob("failed-*"))


def test_only_what_decides_an_answer_redoes_the_stage(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "own.j2"
    file.write_text("{{ query }} {{ item }}")
    plain, own = config_of(server, tmp_path), config_of(server, tmp_path, template=file)
    hash_before = label_inputs(own)
    file.write_text("{{ item }} {{ query }}")
    assert label_inputs(plain) == {} != hash_before != label_inputs(own)
    fast = config_of(server, tmp_path / "x", requests_per_minute=3, tokens_per_minute=5)
    assert key_settings("labels", fast) == key_settings("labels", plain)
    assert key_settings("labels", config_of(server, tmp_path, samples=3)) != key_settings("labels", plain)


def test_a_judge_works_on_the_local_engine_alone(
    server: Server, stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    config = config_of(server, tmp_path).on_engine("ray", None)
    with pytest.raises(ConfigError, match=r"labels.engine: expected local beside labels.judge, found ray"):
        labelled(config, stages, teacher, tmp_path / "out")


@pytest.mark.parametrize("n_kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_judge_goes_on_and_asks_nothing_twice(
    server: Server, stages: dict[str, Path], teacher: Path, tmp_path: Path, n_kills: int
) -> None:
    def slowly(body: dict[str, Any]) -> Any:
        time.sleep(0.02)
        return certain(body)

    server.answer = slowly
    config, out = config_of(server, tmp_path, usd_per_1k_input=1.0), tmp_path / "out"
    out.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["judge_child"])
    work = (config, stages["data"], stages["text"], teacher, out)
    n_pairs = 50  # fewer than there are
    for kill in range(n_kills):
        child = context.Process(target=judge_child.label, args=work)
        child.start()
        wanted = (kill + 1) * n_pairs // (n_kills + 1)
        while len(server.asked) < wanted and child.is_alive():
            time.sleep(0.002)
        assert child.is_alive(), "the work was over before the kill"
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    result = label_pairs(*work, seed=1)
    labels = labels_of(out)
    require_what_was_answered(labels, stages["text"])
    assert labels.select("query", "item_id").is_unique().all()
    assert labels.height == result.counts["pairs"] > n_pairs
    # A kill costs the calls that were under way, at most two; each of them counts with what was booked.
    assert 0 <= len(server.asked) - labels.height <= 2 * n_kills
    assert result.counts["judge"]["usd"] >= 0.1 * labels.height - 1e-9
    fresh = label_pairs(config, stages["data"], stages["text"], teacher, _made(tmp_path / "fresh"), seed=1)
    assert fresh.counts["judge"]["answers_known"] == labels.height
    again = labels_of(tmp_path / "fresh")
    assert again.drop(NAMES).equals(labels.drop(NAMES))
    assert np.array_equal(again.select(NAMES).to_numpy(), labels.select(NAMES).to_numpy())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
