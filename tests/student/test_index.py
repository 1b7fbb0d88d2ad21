"""The item store of a bundle for a catalogue that has changed, against the same encoded anew and against a kill."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.store import ItemStore
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import DataError, ModelError
from pertinent.files import read_json
from pertinent.student import index as indexing
from pertinent.student.index import index_items
from pertinent.text.changes import ChangesConfig
from shops import ITEMS, QUERIES, Shop, make_shop

Item = dict[str, Any]


@pytest.fixture(scope="module")
def whole_shop(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), tiny_backbone / "tokenizer.json")


@pytest.fixture
def bundle(whole_shop: Shop, tmp_path: Path) -> Path:
    return shutil.copytree(whole_shop.bundle, tmp_path / "bundle")


def catalogue(tmp_path: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    file = tmp_path / "items.jsonl"
    file.write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))
    return file


def changed(item_id: str, **fields: Any) -> list[Item]:
    return [{**item, **fields} if item["item_id"] == item_id else item for item in ITEMS]


def encoded(scorer: Scorer, items: Sequence[Mapping[str, Any]], bundle: Path) -> list[bytes]:
    """The records of raw items by another way than the index takes."""
    encoder = ItemEncoder.of(scorer, bundle)
    return encoder.encode(encoder.clean(items)).records()


def records(scorer: Scorer) -> dict[str, bytes]:
    return dict(zip(scorer.row_of, scorer.items_at(np.arange(len(scorer.row_of))).records(), strict=True))


def test_a_catalogue_as_it_was_writes_nothing(bundle: Path, tmp_path: Path) -> None:
    before = (bundle / "bundle.json").stat().st_mtime_ns
    told = index_items(bundle, catalogue(tmp_path, ITEMS))
    assert (told["kept"], told["store"]) == (5, "items")
    assert not any(told[name] for name in ("added", "changed", "columns_changed", "small_changes", "deleted"))
    assert (bundle / "bundle.json").stat().st_mtime_ns == before


def test_added_changed_and_deleted_items_are_those_that_are_encoded_anew(bundle: Path, tmp_path: Path) -> None:
    before = open_bundle(bundle)
    sofa = before.score("red sofa", ["sofa"])
    new = {"item_id": "new", "title": "Blue wool rug 24 in", "color": "green", "numeric": {"price": 7}}
    items = [new, *(item for item in changed("rug", title="Red wool rug") if item["item_id"] != "table")]
    told = index_items(bundle, catalogue(tmp_path, items))
    counts = {name: told[name] for name in ("items", "added", "changed", "columns_changed", "kept", "deleted")}
    assert counts == {"items": 5, "added": 1, "changed": 1, "columns_changed": 0, "kept": 3, "deleted": 1}
    after = open_bundle(bundle)
    assert list(after.row_of) == [item["item_id"] for item in items]
    assert list(records(after).values()) == encoded(before, items, bundle)
    assert np.isnan(after.score("red sofa", ["table"])).all()
    assert np.abs(after.score("red sofa", ["sofa"]) - sofa).max() <= 1e-6
    description = read_json(bundle / "bundle.json")
    assert (description["store"], description["n_items"]) == (told["store"], 5) == ("items-2", 5)
    assert not (bundle / "items").exists()
    assert told["replaced_probe_pairs"] == 6  # two of the five items with each of three queries
    assert verify_bundle(bundle)["features"] == 0
    # Stored halves are those that the features give: of the new, of the changed and of the kept.
    for query in QUERIES:
        rows = np.arange(5)
        vectors, features = after.inputs(query, rows, halves=False)[1:]
        alone = after.run(after.encoder.encode([query]), vectors, features)
        assert np.abs(alone - after.run(*after.inputs(query, rows))).max() <= 1e-5


def test_a_small_change_keeps_the_text_and_adds_up(bundle: Path, tmp_path: Path) -> None:
    """The sofa's text has 17 words: one other is 2 of 34, small; two more are 6 of 34 from what was encoded, not 4."""
    before, limit = records(open_bundle(bundle)), ChangesConfig(share=0.15)
    once = catalogue(tmp_path, changed("sofa", captions=["red sofa", "leather couch"]))
    told = index_items(bundle, once, changes=limit)
    assert (told["small_changes"], told["changed"], told["store"]) == (1, 0, "items")
    assert records(open_bundle(bundle)) == before
    twice = catalogue(tmp_path, changed("sofa", captions=["green wool", "leather couch"]))
    told = index_items(bundle, twice, changes=limit)
    assert (told["small_changes"], told["changed"], told["store"]) == (0, 1, "items-2")
    after = records(open_bundle(bundle))
    assert after["sofa"] != before["sofa"]
    assert {**after, "sofa": b""} == {**before, "sofa": b""}


def test_a_changed_column_is_read_again_and_its_item_keeps_its_vector(bundle: Path, tmp_path: Path) -> None:
    before = open_bundle(bundle)
    told = index_items(bundle, catalogue(tmp_path, changed("table", numeric={"price": 1})))
    assert (told["changed"], told["columns_changed"], told["kept"]) == (0, 1, 4)
    after = open_bundle(bundle)
    row = np.array([1])
    assert (after.item_vectors.first(row) == before.item_vectors.first(row)).all()
    column = after.feature_names.index("column.numeric.price")
    assert after.inputs("oak table", row)[2][0, column] == 1
    # Price is in the stored half, so the item's probabilities move and no other's do.
    moved = np.abs(after.run(*after.inputs("oak", np.arange(5))) - before.run(*before.inputs("oak", np.arange(5))))
    assert moved[1].max() > 1e-4
    assert moved[[0, 2, 3, 4]].max() <= 1e-6


def test_another_catalogue_altogether_replaces_all(bundle: Path, tmp_path: Path) -> None:
    items = [{"item_id": f"n{k}", "title": f"Item {k} of oak"} for k in range(40)]
    told = index_items(bundle, catalogue(tmp_path, items))
    assert (told["added"], told["deleted"], told["kept"], told["replaced_probe_pairs"]) == (40, 5, 0, 15)
    assert list(open_bundle(bundle).row_of) == [item["item_id"] for item in items]
    verify_bundle(bundle)
    assert index_items(bundle, catalogue(tmp_path, ITEMS))["store"] == "items-3"
    verify_bundle(bundle)


@pytest.mark.parametrize("function", ["write_texts", "_write_probe", "replay", "write_description"])
def test_a_kill_leaves_a_whole_bundle_and_the_next_run_ends_the_work(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    items = catalogue(tmp_path, changed("rug", title="Red lamp"))
    before = records(open_bundle(bundle))

    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(indexing, function, dies)
        with pytest.raises(KeyboardInterrupt):
            index_items(bundle, items)
    verify_bundle(bundle)
    assert records(open_bundle(bundle)) == before
    assert index_items(bundle, items)["changed"] == 1
    verify_bundle(bundle)
    assert {path.name for path in bundle.glob("items*")} == {"items-2"}


def test_a_kill_after_the_switch_leaves_the_new_bundle(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old store is still there then; it counts for nothing, and the next run that writes takes it away."""

    def dies(path: Path, *_: Any, **named: Any) -> None:
        if not named:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(indexing.shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            index_items(bundle, catalogue(tmp_path, changed("rug", title="Red lamp")))
    verify_bundle(bundle)
    assert read_json(bundle / "bundle.json")["store"] == "items-2"
    index_items(bundle, catalogue(tmp_path, ITEMS))
    assert {path.name for path in bundle.glob("items*")} == {"items-3"}


def test_a_store_whose_kept_rows_no_longer_replay_is_not_served(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = indexing._made

    def wrong(scorer: Scorer, plan: Any) -> ItemStore:
        made = of(scorer, plan)
        return indexing.replace(made, vectors=made.vectors.rows(np.array([1, 0, 2, 3, 4])))

    monkeypatch.setattr(indexing, "_made", wrong)
    with pytest.raises(ModelError, match=r"items-2/probe\.parquet: parity: p_"):
        index_items(bundle, catalogue(tmp_path, changed("rug", title="Red lamp")))
    verify_bundle(bundle)


def test_a_store_that_was_not_written_as_it_was_made_is_not_served(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pairs are replayed over the files, not over the memory that they were written from."""
    write = indexing.write_texts

    def damages(store: Path, texts: pl.DataFrame) -> None:
        write(store, texts)
        np.save(store / "vectors.npy", np.load(store / "vectors.npy")[::-1])

    monkeypatch.setattr(indexing, "write_texts", damages)
    with pytest.raises(ModelError, match=r"items-2/probe\.parquet: parity: p_"):
        index_items(bundle, catalogue(tmp_path, changed("rug", title="Red lamp")))
    verify_bundle(bundle)


def test_two_runs_on_one_bundle_are_one_too_many(bundle: Path, tmp_path: Path) -> None:
    descriptor = os.open(bundle, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(ModelError, match="another index run is at work on this bundle"):
            index_items(bundle, catalogue(tmp_path, ITEMS))
    finally:
        os.close(descriptor)


def test_a_broken_row_is_told_and_left_out_only_where_asked(bundle: Path, tmp_path: Path) -> None:
    items = catalogue(tmp_path, [*ITEMS, {"item_id": " ", "title": "nameless"}])
    with pytest.raises(DataError, match=r"items\.jsonl:6: item_id must not be empty \(--skip-broken"):
        index_items(bundle, items)
    told = index_items(bundle, items, skip_broken=True)
    assert told["items"] == 5
    assert sum(told["refused"].values()) == 1


def test_mined_fields_are_laid_over_the_items(bundle: Path, tmp_path: Path) -> None:
    captions = pl.DataFrame({"item_id": ["rug"], "text_version": [-1], "captions": [["oak and velvet and wool"]]})
    (tmp_path / "captions").mkdir()
    captions.write_parquet(tmp_path / "captions" / "fields.parquet")
    told = index_items(bundle, catalogue(tmp_path, ITEMS), fields=[tmp_path / "captions"])
    assert told["changed"] == 1
    said = encoded(open_bundle(bundle), changed("rug", captions=["oak and velvet and wool"]), bundle)
    assert list(records(open_bundle(bundle)).values()) == said
