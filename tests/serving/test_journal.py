"""Changes laid over a bundle's own items: a file that processes share, survives kills, and is refused when damaged."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.rows import encoding_of
from pertinent.errors import ConfigError
from pertinent.pipeline.audit import audit
from pertinent.serving.bundles import Loaded
from pertinent.serving.changes import write_changed
from pertinent.serving.loading import delete_items, load_items
from pertinent.serving.scoring import explained, score_items
from pertinent.serving.stores import StoreError
from pertinent.serving.stores.journal import JournalStore
from servers import ADMIN, Server, until
from shops import ITEMS, Shop

IDS = [item["item_id"] for item in ITEMS]
NEW = {"item_id": "couch", "title": "Blue leather couch", "color": "red", "numeric": {"price": 10}}
MOVED = {**ITEMS[1], "title": "Red oak table"}
HEADERS = {"authorization": f"Bearer {ADMIN}"}


@pytest.fixture(scope="module")
def scorer(shop: Shop) -> Scorer:
    return open_bundle(shop.bundle)


@pytest.fixture(scope="module")
def encoder(shop: Shop, scorer: Scorer) -> ItemEncoder:
    return ItemEncoder.of(scorer, shop.bundle)


def opened(folder: Path, scorer: Scorer) -> JournalStore:
    return JournalStore(folder, encoding_of(scorer.description), scorer)


def journal_of(folder: Path) -> Path:
    (file,) = folder.glob("*.journal")
    return file


def test_changes_are_seen_by_every_store_at_once_and_after_a_restart(
    tmp_path: Path, scorer: Scorer, encoder: ItemEncoder, shop: Shop
) -> None:
    writer, reader = opened(tmp_path / "made" / "here", scorer), opened(tmp_path / "made" / "here", scorer)
    items = encoder.clean([NEW, MOVED, ITEMS[0]])
    assert write_changed(writer, encoder, items) == (2, 1)  # the sofa is as the bundle has it
    assert reader.delete(["rug", "rug", "nobody"]) == 1
    assert reader.delete(["rug"]) == 0
    for store in (writer, reader, opened(tmp_path / "made" / "here", scorer)):
        loaded = Loaded(scorer, shop.bundle, "hash", store)
        found = score_items(loaded, "red sofa", ["sofa", "couch", "table", "rug", "lamp", "couch"], 4)
        assert found.known.tolist() == [True, True, True, False, True, True]
        own = scorer.score("red sofa", ["sofa", "lamp"])
        assert np.abs(found.probs[[0, 4]] - own).max() <= 1e-6
        changed = scorer.run(*scorer.inputs_of("red sofa", encoder.encode(encoder.clean([NEW, MOVED]))))
        assert np.abs(found.probs[[1, 2, 5]] - changed[[0, 1, 0]]).max() <= 1e-6
        assert store.count() == 5
        # What explains a score reads the same rows as the score.
        features, _ = explained(found, "red sofa", [1])[1]
        assert features["column.numeric.price"] == 10
        store.close()


def test_writers_in_several_processes_lose_nothing(tmp_path: Path, shop: Shop, scorer: Scorer) -> None:
    code = """
import sys
from pathlib import Path
from pertinent.bundle import open_bundle
from pertinent.bundle.rows import encoding_of
from pertinent.serving.stores.journal import JournalStore
scorer = open_bundle(Path(sys.argv[1]))
store = JournalStore(Path(sys.argv[2]), encoding_of(scorer.description), scorer)
print("ready", flush=True)
sys.stdin.read()
for k in range(200):
    store.put({f"{sys.argv[3]}-{k}": b"%s %d" % (sys.argv[3].encode(), k)})
"""
    commands = [[sys.executable, "-c", code, str(shop.bundle), str(tmp_path), name] for name in ("a", "b")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    started = [subprocess.Popen(command, **pipes) for command in commands]
    assert [process.stdout.readline() for process in started if process.stdout] == [b"ready\n"] * 2
    for process in started:  # at one time, so that they meet
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
    store = opened(tmp_path, scorer)
    ids = [f"{name}-{k}" for name in ("a", "b") for k in range(200)]
    records = store.find(ids).records
    assert [records[place] for place in range(400)] == [item.replace("-", " ").encode() for item in ids]
    store.close()


def test_a_writer_waits_for_the_one_before(tmp_path: Path, scorer: Scorer) -> None:
    store = opened(tmp_path, scorer)
    (lock,) = tmp_path.glob("*.lock")
    with ThreadPoolExecutor(2) as pool:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            put = pool.submit(store.put, {"a": b"first"})
            with pytest.raises(TimeoutError):
                put.result(timeout=0.3)
            found = pool.submit(store.find, ["a", "sofa"]).result(timeout=10)  # a request does not wait
            assert found.rows.tolist() == [-1, 0]
        put.result(timeout=20)
    assert store.find(["a"]).records == {0: b"first"}
    store.close()


def test_what_a_killed_writer_left_is_cut_off_and_what_was_written_stays(tmp_path: Path, scorer: Scorer) -> None:
    store, reader = opened(tmp_path, scorer), opened(tmp_path, scorer)
    store.put({"a": b"first"})
    whole = journal_of(tmp_path).read_bytes()
    store.put({"b": b"second"})
    torn = journal_of(tmp_path).read_bytes()[:-3]
    for cut in (torn, whole + b"\x01"):
        journal_of(tmp_path).write_bytes(cut)
        again = opened(tmp_path, scorer)
        assert dict(again.find(["a", "b"]).records) == {0: b"first"}
        assert again.find(["a"]).trouble == ""
        again.put({"c": b"third"})
        assert dict(again.find(["a", "b", "c"]).records) == {0: b"first", 2: b"third"}
        again.close()
    reader.close()
    store.close()


def test_a_damaged_journal_is_told_serves_what_came_before_and_takes_no_changes(tmp_path: Path, scorer: Scorer) -> None:
    store = opened(tmp_path, scorer)
    store.put({"a": b"first"})
    at = journal_of(tmp_path).stat().st_size
    store.put({"b": b"second", "c": b"third"})
    data = bytearray(journal_of(tmp_path).read_bytes())
    data[at + 12] ^= 1
    journal_of(tmp_path).write_bytes(bytes(data))
    again = opened(tmp_path, scorer)
    found = again.find(["a", "b", "c", "sofa"])
    assert dict(found.records) == {0: b"first"}
    assert found.rows.tolist() == [-1, -1, -1, 0]
    assert f"damaged at byte {at:,}" in found.trouble
    with pytest.raises(StoreError, match="damaged at byte"):
        again.put({"d": b"fourth"})
    assert journal_of(tmp_path).read_bytes() == bytes(data)
    for one in (store, again):
        one.close()


def test_a_large_file_is_rewritten_without_what_was_overtaken(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pertinent.serving.stores.journal.COMPACT_BYTES", 5_000)
    store, reader = opened(tmp_path, scorer), opened(tmp_path, scorer)
    reader.find(["a"])
    sizes = []
    store.delete(["rug"])
    for k in range(20):
        store.put({"a": b"%d" % k * 1_000, "b": b"b"})
        sizes.append(journal_of(tmp_path).stat().st_size)
        assert reader.find(["a"]).records[0] == b"%d" % k * 1_000
    assert max(sizes) < 14_000
    assert reader.find(["rug", "b"]).rows.tolist() == [-1, -1]
    assert reader.find(["b"]).records[0] == b"b"
    again = opened(tmp_path, scorer)
    assert again.find(["a", "rug"]).records == {0: b"19" * 1_000}
    for one in (store, reader, again):
        one.close()


def test_a_disk_that_is_full_is_told_and_leaves_the_journal_whole(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, scorer)
    store.put({"a": b"first"})
    before = journal_of(tmp_path).read_bytes()
    real = os.pwrite

    def full(fd: int, data: Any, at: int) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return real(fd, data[: len(data) // 2], at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="No space left on device"):
            store.put({"b": b"second" * 100})
    assert journal_of(tmp_path).read_bytes() == before
    store.put({"b": b"third"})
    assert dict(store.find(["a", "b"]).records) == {0: b"first", 1: b"third"}
    store.close()


def test_what_others_have_read_of_a_write_that_failed_is_not_taken_back(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reader = opened(tmp_path, scorer), opened(tmp_path, scorer)
    real = os.pwrite

    def full_after_the_first_entry(fd: int, data: Any, at: int) -> int:
        if len(data) < 600:
            assert reader.find(["a"]).records == {0: b"first"}
            raise OSError(28, "No space left on device")
        return real(fd, data[:100], at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full_after_the_first_entry)
        with pytest.raises(StoreError, match="No space left on device"):
            store.put({"a": b"first", "b": b"second" * 100})
    store.put({"c": b"third" * 100})
    for one in (store, reader):
        found = one.find(["a", "b", "c"])
        assert (found.records, found.trouble) == ({0: b"first", 2: b"third" * 100}, "")
        one.close()


def test_a_folder_that_is_gone_leaves_what_was_read_and_is_told(tmp_path: Path, scorer: Scorer) -> None:
    store = opened(tmp_path / "changes", scorer)
    store.put({"a": b"first"})
    store.delete(["rug"])
    shutil.rmtree(tmp_path / "changes")
    found = store.find(["a", "rug", "sofa"])
    assert (found.records, found.rows.tolist()) == ({0: b"first"}, [-1, -1, 0])
    assert "No such file" in found.trouble
    store.close()


def test_threads_read_while_one_writes(tmp_path: Path, scorer: Scorer) -> None:
    store = opened(tmp_path, scorer)
    store.put({f"i{k}": b"%d" % k for k in range(50)})

    def read(_: int) -> bool:
        return all(store.find([f"i{k}"]).records[0] == b"%d" % k for k in range(50))

    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(read, k) for k in range(8)]
        for k in range(50, 100):
            store.put({f"i{k}": b"%d" % k})
        assert all(future.result() for future in reads)
    store.close()


def test_a_store_that_was_replaced_holds_no_file_open(tmp_path: Path, scorer: Scorer) -> None:
    def held() -> int:
        return sum(os.path.realpath(fd).endswith(".journal") for fd in Path("/proc/self/fd").iterdir())

    store = opened(tmp_path, scorer)
    store.put({"a": b"first"})
    assert held() == 1
    del store
    assert held() == 0


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, scorer: Scorer) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        opened(tmp_path / "file", scorer)


def test_load_and_delete_from_files(tmp_path: Path, shop: Shop, scorer: Scorer, encoder: ItemEncoder) -> None:
    folder, table = tmp_path / "changes", tmp_path / "items.jsonl"
    table.write_text('{"item_id": "couch", "title": "Blue leather couch"}\n{"item_id": "bad", "boards": 7}\n')
    with pytest.raises(Exception, match=r"items.jsonl:2: boards must be .*--skip-broken"):
        load_items(str(folder), shop.bundle, table)
    told = load_items(str(folder), shop.bundle, table, skip_broken=True)
    assert (told["items"], told["written"]) == (1, 1)
    assert sum(told["refused"].values()) == 1
    assert load_items(str(folder), shop.bundle)["unchanged"] == 5
    told = delete_items(str(folder), shop.bundle, table)
    assert (told["items"], told["deleted"], told["absent"]) == (2, 1, 1)


def test_items_are_put_over_http_and_every_worker_serves_them_at_once(
    serve: Callable[..., Server], shop: Shop, tmp_path: Path
) -> None:
    log = ("--feature-log", tmp_path / "log", "--feature-log-share", "1")
    server = serve(shop.bundle, "--workers", "2", "--store", tmp_path / "changes", *log)
    body = {"query": "red sofa", "item_ids": ["couch", *IDS]}
    with server.client() as client:
        assert client.put("/v1/items", json={"items": [NEW]}).status_code == 401
        assert client.post("/v1/score", json=body).json()["unknown"] == ["couch"]
    with server.client(headers=HEADERS) as client:
        assert client.put("/v1/items", json={"items": [NEW]}).json()["written"] == 1
        for _ in range(6):
            with server.client() as fresh:
                answer = fresh.post("/v1/score", json=body).json()
                assert (answer["unknown"], answer["degraded"]) == ([], False)
        refused = client.put("/v1/items", json={"items": [{"item_id": "a", "colour": "red"}]})
        assert (refused.status_code, refused.json()["message"]) == (
            422,
            "items.0: unknown field colour; did you mean color?",
        )
        assert client.put("/v1/items", json={"items": [{"item_id": "a"}] * 1_001}).status_code == 422
        for item, said in (({"item_id": 2**64}, "64-bit"), ({"item_id": "a" * 70_000}, "at most 512 characters")):
            refused = client.put("/v1/items", json={"items": [item]})
            assert (refused.status_code, refused.json()["type"]) == (422, "invalid")
            assert said in refused.json()["message"]
        text = client.get("/metrics").text
        assert 'pertinent_changed_items_total{change="put"} 1.0' in text
        assert client.get("/v1/models").json()["data"][0]["n_items"] == 6
    assert server.stop() == 0
    told = audit(tmp_path / "log", shop.bundle)
    assert told["from_store"] == 6
    assert not told["skew"]
    again = serve(shop.bundle, "--store", tmp_path / "changes")
    with again.client() as client:
        until(lambda: client.post("/v1/score", json=body).json()["unknown"] == [])


def test_the_bundles_own_files_take_no_changes(serve: Callable[..., Server], shop: Shop) -> None:
    server = serve(shop.bundle)
    with server.client(headers=HEADERS) as client:
        for method, body in (("PUT", {"items": [NEW]}), ("DELETE", {"item_ids": ["sofa"]})):
            refused = client.request(method, "/v1/items", json=body)
            assert (refused.status_code, refused.json()["type"]) == (409, "read_only")
            assert "--store FOLDER" in refused.json()["message"]
