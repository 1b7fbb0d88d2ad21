from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.teacher.model import Teacher
from pertinent.teacher.saving import load_teacher
from pertinent.types import StageResult

CONFIG = LabelsConfig(pool_per_query=3, pool_depth=8, random_per_query=1, unit_pairs=16)


def labelled(stages: dict[str, Path], teacher: Path, out: Path, config: LabelsConfig = CONFIG) -> StageResult:
    out.mkdir(exist_ok=True)
    return label_pairs(config, stages["data"], stages["text"], teacher, out, seed=1)


def shards_of(out: Path) -> dict[str, pl.DataFrame]:
    return {shard.name: pl.read_parquet(shard) for shard in sorted(out.glob("shard-*.parquet"))}


def test_shards_hold_the_teachers_probabilities(stages: dict[str, Path], teacher: Path, tmp_path: Path) -> None:
    result = labelled(stages, teacher, tmp_path)
    shards = shards_of(tmp_path)
    assert [table.height for table in shards.values()][:-1] == [16] * (len(shards) - 1)
    labels = pl.concat(shards.values())
    opened = load_teacher(teacher)
    texts = dict(pl.read_parquet(stages["text"] / "items.parquet").select("item_id", "text").iter_rows())
    expected = opened.score(labels["query"].to_list(), [texts[item] for item in labels["item_id"]])
    found = labels.select("p_1", "p_2", "p_3").to_numpy()
    assert np.abs(found - expected).max() <= 1e-5
    assert labels["teacher"].unique().to_list() == [opened.teacher_id] == [result.counts["teacher"]]
    assert (tmp_path / "tokenizer.json").read_bytes() == (teacher / "tokenizer.json").read_bytes()
    assert (np.load(tmp_path / "token_vectors.npy") == np.load(teacher / "token_vectors.npy")).all()


def test_counts_are_those_of_the_shards(stages: dict[str, Path], teacher: Path, tmp_path: Path) -> None:
    result = labelled(stages, teacher, tmp_path)
    labels = pl.concat(shards_of(tmp_path).values())
    probs = labels.select("p_1", "p_2", "p_3").to_numpy().astype(np.float64)
    assert result.counts["pairs"] == labels.height
    assert result.counts["by_source"] == dict(labels["source"].value_counts().iter_rows())
    assert result.counts["by_source"]["judged"] == 18
    assert result.counts["by_language"]["und"] == labels["language"].null_count() > 0
    assert sum(result.counts["by_language"].values()) == labels.height
    assert list(result.counts["grade_shares"].values()) == pytest.approx(probs.mean(axis=0), abs=1e-4)
    assert result.counts["mean_entropy_nats"] == pytest.approx(-(probs * np.log(probs)).sum(axis=1).mean(), abs=1e-4)


def test_a_lost_shard_is_labelled_again_and_the_others_are_kept(
    stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    whole = labelled(stages, teacher, tmp_path)
    before = shards_of(tmp_path)
    changed = {shard: shard.stat().st_mtime_ns for shard in tmp_path.glob("shard-*.parquet")}
    (tmp_path / "shard-00001.parquet").unlink()
    assert labelled(stages, teacher, tmp_path).counts == whole.counts
    after = shards_of(tmp_path)
    assert after.keys() == before.keys()
    assert all(after[name].equals(before[name]) for name in before)
    kept = [shard for shard, time in changed.items() if shard.stat().st_mtime_ns == time]
    assert len(kept) == len(before) - 1


def test_what_a_power_cut_damaged_is_labelled_again_and_what_a_kill_left_is_removed(
    stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    whole = labelled(stages, teacher, tmp_path)
    before = shards_of(tmp_path)
    (tmp_path / "shard-00001.parquet").write_bytes(b"")
    (tmp_path / ".shard-00002.parquet.7.partial").write_bytes(b"PAR1")
    assert labelled(stages, teacher, tmp_path).counts == whole.counts
    after = shards_of(tmp_path)
    assert all(after[name].equals(before[name]) for name in before)
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupted_run_is_continued_after_its_last_whole_shard(
    stages: dict[str, Path], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(stages, teacher, tmp_path / "undisturbed")
    n_calls = 0
    score = Teacher.score_encoded

    def scored(*arguments: object) -> object:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return score(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Teacher, "score_encoded", scored)
    with pytest.raises(KeyboardInterrupt):
        labelled(stages, teacher, tmp_path / "out")
    assert list(shards_of(tmp_path / "out")) == ["shard-00000.parquet", "shard-00001.parquet"]
    labelled(stages, teacher, tmp_path / "out")
    undisturbed, found = shards_of(tmp_path / "undisturbed"), shards_of(tmp_path / "out")
    assert n_calls == 1 + len(undisturbed)
    assert found.keys() == undisturbed.keys()
    assert all(found[name].equals(undisturbed[name]) for name in found)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_cache_that_changes_between_starts_loses_and_doubles_nothing(
    stages: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    labelled(stages, teacher, tmp_path / "cache")
    whole = pl.concat(shards_of(tmp_path / "cache").values()).sort("query", "item_id")
    shards = sorted((tmp_path / "cache").glob("shard-*.parquet"))
    shards[-1].unlink()
    half = CONFIG.model_copy(update={"cache": (tmp_path / "cache",)})
    for first, then in ((CONFIG, half), (half, CONFIG)):
        out = tmp_path / ("added" if first is CONFIG else "taken")
        labelled(stages, teacher, out, first)
        (out / "shard-00000.parquet").unlink()
        labelled(stages, teacher, out, then)
        found = pl.concat(shards_of(out).values()).sort("query", "item_id")
        assert found.select("query", "item_id").equals(whole.select("query", "item_id"))
        assert np.abs(found["p_1"].to_numpy() - whole["p_1"].to_numpy()).max() <= 1e-5


def test_nothing_to_label_is_a_data_error(stages: dict[str, Path], teacher: Path, tmp_path: Path) -> None:
    config = LabelsConfig(judged_pairs=False, log_pairs=0, pool_per_query=0, random_per_query=0)
    with pytest.raises(DataError, match="labels: expected pairs to label, found none"):
        labelled(stages, teacher, tmp_path, config)
