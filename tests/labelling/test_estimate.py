"""What a dry run says labelling will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from pertinent.errors import ConfigError, DataError
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.estimate import (
    Block,
    Timed,
    blocks_of,
    estimate_labels,
    time_blocks,
    total_seconds,
    total_tokens,
)
from pertinent.labelling.label import label_pairs
from pertinent.labelling.plan import Chosen, choose_pairs
from pertinent.pipeline.labelling import engine_named, estimate_run
from pertinent.pipeline.run import RunConfig
from pertinent.progress import Progress
from pertinent.teacher.saving import load_teacher, teacher_id_of
from pertinent.text.item_texts import ItemTexts

CONFIG = LabelsConfig(pool_per_query=3, pool_depth=8, random_per_query=1, unit_pairs=16)


def block(n_pairs: int, length: int, lengths: list[int]) -> Block:
    names = [str(k) for k in range(len(lengths))]
    return Block(names, names, lengths, n_pairs, length)


def test_the_strata_add_up_by_hand() -> None:
    blocks = [block(1000, 10_000, [10, 10, 10, 10]), block(500, 20_000, [40, 40])]
    alone = [Timed(4, 2.0, 48), Timed(2, 4.0, 60)]
    # 1000 pairs at 2 a second and 500 at 0.5 a second.
    assert total_seconds(blocks, [alone]) == pytest.approx(500 + 1000)
    # A second worker at twice the rate: 6 and 1.5 a second together.
    assert total_seconds(blocks, [alone, [Timed(4, 1.0, 48), Timed(2, 2.0, 60)]]) == pytest.approx(500)
    # A length of 10 turned out to be 12 tokens, one of 40 to be 30.
    assert total_tokens(blocks, alone) == 12_000 + 15_000


def _chosen(n: int) -> Chosen:
    rows = pl.DataFrame({"item_id": ["i0", "i1"], "text_version": [-1, -1], "text": ["short", "long"]})
    pairs = pl.DataFrame({"query": [f"q{k}" for k in range(n)], "length": pl.Series(range(n), dtype=pl.Int32)})
    pairs = pairs.with_columns(text_row=pl.Series([k * 2 // n for k in range(n)], dtype=pl.UInt32))
    return Chosen(pairs, pairs.head(0), ItemTexts(rows, None, Path("items.parquet")))


def test_blocks_stand_in_the_middle_of_strata_that_cover_every_pair() -> None:
    blocks = blocks_of(_chosen(1000), n_strata=4, most=100)
    assert [found.n_pairs for found in blocks] == [250] * 4
    assert sum(found.length for found in blocks) == sum(range(1000))
    assert [(found.queries[0], len(found.queries), found.texts[0]) for found in blocks] == [
        ("q75", 100, "short"),
        ("q325", 100, "short"),
        ("q575", 100, "long"),
        ("q825", 100, "long"),
    ]
    assert sum(found.n_pairs for found in blocks_of(_chosen(70))) == 70  # too few for several
    assert blocks_of(_chosen(0)) == []


class Steady:
    """Takes 2 ms a pair."""

    teacher_id = "steady"

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        time.sleep(0.002 * len(queries))
        return np.zeros((len(queries), 2), dtype=np.float32)


def test_a_labeller_is_timed_until_the_clock_tells() -> None:
    blocks = [block(10_000, 10_000, [1] * 1000), block(10_000, 10_000, [1] * 100)]
    timed = time_blocks(blocks, Steady())
    assert [one.n for one in timed] == [256, 100]  # 64 pairs take 0.13 s, 256 take 0.51; a block may have no more
    assert total_seconds(blocks, [timed]) == pytest.approx(40, rel=0.25)


def test_rows_cache_tokens_and_cost(stages: dict[str, Path], teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    few = CONFIG.model_copy(update={"log_pairs": 10})
    first = label_pairs(few, stages["data"], stages["text"], teacher, tmp_path / "first", seed=1)
    config = CONFIG.model_copy(update={"cache": (tmp_path / "first",)})
    folders = (stages["data"], stages["text"], teacher)
    found = estimate_labels(config, *folders, engines=["local"], price_per_hour_usd=3_600_000.0, seed=1)
    (tmp_path / "second").mkdir()
    counts = label_pairs(config, *folders, tmp_path / "second", seed=1).counts
    assert found["rows"] == counts["pairs"]
    assert found["cached"] == counts["cached"] > 0
    assert found["to_label"] == found["rows"] - found["cached"] > 0
    local = found["engines"]["local"]
    assert local["cost_usd"] == pytest.approx(local["hours"] * 3_600_000, abs=2)  # hours are told to six digits
    assert local["hours"] * 3600 >= local["start_s"] * 0.5
    # Few pairs: all of them are in the one block that is timed, so that the tokens are counted and not guessed.
    chosen = choose_pairs(config, stages["data"], stages["text"], teacher_id_of(teacher), 1)
    texts = chosen.texts.rows["text"].gather(chosen.pairs["text_row"]).to_list()
    rows = load_teacher(teacher).members[0].pairs.encode(chosen.pairs["query"].to_list(), texts).rows
    assert found["tokens"] == sum(map(len, rows))
    assert first.counts["cached"] == 0


def test_all_cached_takes_no_time(stages: dict[str, Path], teacher: Path, tmp_path: Path) -> None:
    folders = (stages["data"], stages["text"], teacher)
    label_pairs(CONFIG, *folders, tmp_path, seed=1)
    config = CONFIG.model_copy(update={"cache": (tmp_path,)})
    found = estimate_labels(config, *folders, engines=["local"], seed=1)
    assert (found["to_label"], found["tokens"]) == (0, 0)
    assert found["engines"]["local"]["pairs_per_s"] is None
    assert found["engines"]["local"]["cost_usd"] is None


def test_a_run_whose_teacher_is_not_there_is_told_so(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"name": "shop", "output": tmp_path, "data": {"reader": "pinboard"}})
    with pytest.raises(DataError, match=r"shop/data: expected a finished stage to time, found none"):
        estimate_run(config)


def test_the_engine_of_the_options() -> None:
    assert engine_named(None, None) is None
    assert engine_named(None, "auto") == engine_named("ray", "auto") == engine_named("ray", None) == "ray"
    assert engine_named("local", None) == "local"
    with pytest.raises(ConfigError, match="--engine: expected local or ray, found spark"):
        engine_named("spark", None)
    with pytest.raises(ConfigError, match="--engine with --address: expected ray, found local"):
        engine_named("local", "auto")
