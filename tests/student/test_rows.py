"""Label shards and training rows that are larger than memory: read in blocks, shuffled in a buffer, gone on with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.files import read_json
from pertinent.student import prepare as preparing
from pertinent.student import rows as row_cache
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import Catalogue, pair_rows, read_catalogue
from pertinent.student.rows import RowCache, Rows, write_rows
from pertinent.student.shards import label_blocks
from pertinent.student.spill import Spill, spill_rows
from pertinent.student.train import train_student
from pertinent.teacher.pairs import load_tokenizer

NAMES = ("p_1", "p_2", "p_3")
CONFIG = StudentConfig(dimensions=16, hidden=(16,), epochs=2, batch_size=64, dropout=0.1, probe_pairs=20)


def test_blocks_are_the_shards_rows_in_order_whatever_their_size(stages: dict[str, Path], tmp_path: Path) -> None:
    shards = pl.concat([pl.read_parquet(stages["labels"] / f"shard-0000{i}.parquet") for i in range(2)])
    floats = shards.with_columns(pl.col(NAMES).cast(pl.Float32), weight=pl.lit(1.0))
    for size in (50, shards.height // 2, 10_000):
        blocks = list(label_blocks(stages["labels"], NAMES, size))
        assert [block.height for block in blocks[:-1]] == [size] * (shards.height // size if size < 10_000 else 0)
        assert pl.concat(blocks).equals(floats)
    with pytest.raises(DataError, match=r"expected label shards \(shard-\*\.parquet\), found none"):
        next(label_blocks(tmp_path, NAMES))


def test_a_wrong_row_is_named_by_its_place_in_the_folder(tmp_path: Path) -> None:
    right = pl.DataFrame({"query": ["a", "b", "c"], "item_id": ["i", "j", "k"], "p_1": 0.5, "p_2": 0.5})
    right.write_parquet(tmp_path / "shard-0.parquet")
    right.with_columns(query=pl.Series(["a", None, "c"])).write_parquet(tmp_path / "shard-1.parquet")
    with pytest.raises(DataError, match=r"labels, row 4: expected a query"):
        list(label_blocks(tmp_path, ("p_1", "p_2"), 2))
    with pytest.raises(
        DataError, match=r"shard-0.parquet: expected the columns query, item_id, p_1, p_3, found no p_3"
    ):
        list(label_blocks(tmp_path, ("p_1", "p_3")))
    (tmp_path / "shard-1.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"shard-1.parquet: not a readable Parquet file"):
        list(label_blocks(tmp_path, ("p_1", "p_2")))


def random_cache(folder: Path, sizes: tuple[int, ...]) -> RowCache:
    """Features: the row's number, and a large number that hardly moves; 5 rows a query."""
    rng = np.random.default_rng(0)
    for k, size in enumerate(sizes):
        number = sum(sizes[:k]) + np.arange(size)
        features = np.stack([number, 1e4 + rng.normal(size=size)], axis=1).astype(np.float32)
        arrays = {"query_rows": (number // 5).astype(np.int32), "item_rows": number.astype(np.int32)}
        arrays |= {"targets": np.full((size, 3), 1 / 3, dtype=np.float32), "weights": np.ones(size, dtype=np.float32)}
        np.savez(folder / f"block-{k:05d}.npz", features=features, **arrays)
    return RowCache(folder, sizes)


def test_moments_are_those_of_all_rows(tmp_path: Path) -> None:
    cache = random_cache(tmp_path, (40, 7, 100))
    whole = np.concatenate([cache.block(k).features for k in range(3)]).astype(np.float64)
    mean, std = cache.moments()
    assert mean == pytest.approx(whole.mean(axis=0), rel=1e-6)
    assert std == pytest.approx(whole.std(axis=0), rel=1e-4)


@pytest.mark.parametrize(("buffer_rows", "n_blocks"), [(1, (1, 2)), (60, (2, 3)), (1_000, (3, 4))])
def test_every_epoch_has_every_row_once_in_another_order(
    tmp_path: Path, buffer_rows: int, n_blocks: tuple[int, int]
) -> None:
    """n_blocks: that the first two batches may come from; the last block has 7 rows, the others 40."""
    cache = random_cache(tmp_path, (40, 40, 40, 7))

    def epoch(seed: int) -> list[int]:
        batches = list(cache.batches(16, buffer_rows, (0, seed)))
        assert [len(batch) for batch in batches] == [16] * 7 + [15]
        return [int(value) for batch in batches for value in batch.features[:, 0]]

    first, again, second = epoch(1), epoch(1), epoch(2)
    assert sorted(first) == sorted(second) == list(range(127))
    assert first == again != second
    assert len({row // 40 for row in first[:32]}) in n_blocks


def test_no_more_blocks_are_held_than_the_buffer_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = random_cache(tmp_path, (20,) * 10)
    held: list[int] = []
    joined = Rows.joined
    monkeypatch.setattr(Rows, "joined", staticmethod(lambda parts: held.append(sum(map(len, parts))) or joined(parts)))
    assert sum(len(batch) for batch in cache.batches(8, 40, (0,))) == 200
    assert max(held) < 40 + 20
    assert len(held) >= 4


def test_by_query_the_rows_of_a_query_stand_together(tmp_path: Path) -> None:
    cache = random_cache(tmp_path, (50, 50))
    order = np.concatenate([batch.query_rows for batch in cache.batches(10, 1_000, (3,), by_query=True)])
    assert (np.diff(order) != 0).sum() == 19
    assert not (np.sort(order) == order).all()


def spilled(stages: dict[str, Path], folder: Path, **more: Any) -> tuple[Spill, Catalogue]:
    catalogue = read_catalogue(stages["text"], load_tokenizer(stages["labels"] / "tokenizer.json"))
    n_rows = sum(block.height for block in label_blocks(stages["labels"], NAMES))
    options = {"made_of": {"labels": "these"}, "block_rows": 100, **more}
    return spill_rows(
        lambda: label_blocks(stages["labels"], NAMES, 70), n_rows, catalogue.ids, NAMES, folder, **options
    ), catalogue


def test_all_rows_of_a_query_are_spilled_into_one_block(stages: dict[str, Path], tmp_path: Path) -> None:
    spill, catalogue = spilled(stages, tmp_path / "rows")
    labels = pl.concat(list(label_blocks(stages["labels"], NAMES)))
    assert len(spill.sizes) == -(-labels.height // 100) > 2
    seen: set[str] = set()
    rows = []
    for k, size in enumerate(spill.sizes):
        records = spill.block(k)
        queries = [spill.queries[place] for place in records["query"]]
        assert records.size == size
        assert not seen & set(queries)
        seen |= set(queries)
        assert (np.diff(records["query"]) != 0).sum() == len(set(queries)) - 1
        items = [catalogue.ids[place] for place in records["item"]]
        rows += [
            (q, i, *r["targets"].tolist(), float(r["weight"])) for q, i, r in zip(queries, items, records, strict=True)
        ]
    assert sorted(rows) == sorted(labels.rows())


def test_an_item_without_a_text_is_refused(stages: dict[str, Path], tmp_path: Path) -> None:
    block = next(label_blocks(stages["labels"], NAMES))
    with pytest.raises(DataError, match="labels: expected items of the text stage, found i"):
        spill_rows(lambda: [block], 9, ["another"], NAMES, tmp_path / "rows", block_rows=10, made_of={})


def test_the_cache_has_the_features_of_its_pairs(stages: dict[str, Path], tmp_path: Path) -> None:
    spill, catalogue = spilled(stages, tmp_path / "rows")
    cache = write_rows(spill, catalogue)
    found = Rows.joined([cache.block(k) for k in range(len(cache.sizes))])
    pairs = pl.DataFrame(
        {
            "query": [spill.queries[place] for place in found.query_rows],
            "item_id": [catalogue.ids[row] for row in found.item_rows],
            "split": "train",
        }
    )
    labels = pl.concat(list(label_blocks(stages["labels"], NAMES)))
    expected = pair_rows(pairs, catalogue, "test")
    assert (found.features == expected.features).all()
    joined = pairs.join(labels, on=["query", "item_id"], maintain_order="left")
    assert (found.targets == joined.select(NAMES).to_numpy()).all()
    assert cache.n_rows == labels.height


def test_several_processes_write_the_same_cache(stages: dict[str, Path], tmp_path: Path) -> None:
    for n, name in ((1, "one"), (2, "two")):
        write_rows(*spilled(stages, tmp_path / name), workers=n)
    for file in sorted((tmp_path / "one").glob("block-*")):
        one, two = (dict(np.load(tmp_path / name / file.name)) for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert all((one[name] == two[name]).all() for name in one)


def test_blocks_of_a_killed_run_are_kept_and_those_of_other_labels_are_not(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rows"
    write_rows(*spilled(stages, folder))
    first = folder / "block-00000.npz"
    os.utime(first, (1, 1))
    write_rows(*spilled(stages, folder))
    assert first.stat().st_mtime == 1
    write_rows(*spilled(stages, folder, made_of={"labels": "others"}))
    assert first.stat().st_mtime > 1
    # A spill that was cut off is begun anew, whatever it had written.
    (folder / "spill.json").unlink()
    spill, _ = spilled(stages, folder)
    assert sum(spill.block(k).size for k in range(len(spill.sizes))) == sum(spill.sizes)


def test_a_training_in_many_blocks_killed_among_its_features_equals_an_undisturbed_one(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "BLOCK_ROWS", 60)
    config = CONFIG.model_copy(update={"buffer_rows": 100, "human_weight": 0.5})
    outs = [tmp_path / "whole", tmp_path / "killed"]
    for out in outs:
        out.mkdir()
    result = train_student(config, **stages, out=outs[0], seed=1)
    write = row_cache._write_block

    def dies(k: int, *rest: Any) -> int:
        if k == 3:
            raise KeyboardInterrupt
        return write(k, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(row_cache, "_write_block", dies)
        with pytest.raises(KeyboardInterrupt):
            train_student(config, **stages, out=outs[1], seed=1)
    assert len(list((outs[1] / "rows").glob("*.npz"))) == 3
    again = train_student(config, **stages, out=outs[1], seed=1)
    assert read_json(outs[0] / "history.json") == read_json(outs[1] / "history.json")
    assert (outs[0] / "student.onnx").read_bytes() == (outs[1] / "student.onnx").read_bytes()
    assert {**again.counts, "bundle_bytes": 0} == {**result.counts, "bundle_bytes": 0}
    assert not (outs[1] / "rows").exists()
