"""A store in a real redis-server: stopped, hung, slow, restarted, short of items, shared by two bundles."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import polars as pl
import pytest

from pertinent.bundle import open_bundle
from pertinent.bundle.rows import encoding_of
from pertinent.errors import ConfigError
from pertinent.serving.bundles import Loaded, hash_of
from pertinent.serving.loading import delete_items, load_items
from pertinent.serving.scoring import score_documents, score_items
from pertinent.serving.settings import Settings
from pertinent.serving.stores import StoreError, open_store
from pertinent.serving.stores.redis import RedisStore
from redis_servers import COMMAND, MISSING, RedisServer, start_redis
from servers import ADMIN, MAIN, Server, move, until
from shops import ITEMS, Shop, make_shop

pytestmark = pytest.mark.skipif(COMMAND is None, reason=MISSING)
IDS = [item["item_id"] for item in ITEMS]
BODY = {"query": "red sofa", "item_ids": IDS}
HEADERS = {"authorization": f"Bearer {ADMIN}"}
FAST = ["--set", "store_retry=0.1", "--set", "store_fresh=0"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = start_redis(folder)
    yield server
    server.stop()


def opened(shop: Shop, redis: RedisServer, **settings: Any) -> Loaded:
    scorer = open_bundle(shop.bundle)
    told = Settings(bundle=shop.bundle, store=redis.url, store_retry=0.05, **settings)
    return Loaded(scorer, shop.bundle, "hash", open_store(told, scorer))


def probabilities(shop: Shop) -> list[list[float]]:
    return open_bundle(shop.bundle).score("red sofa", IDS).astype(float).tolist()


def test_scores_from_redis_are_those_of_the_bundles_own_rows(shop: Shop, redis: RedisServer) -> None:
    told = load_items(redis.url, shop.bundle)
    assert (told["items"], told["written"], told["unchanged"]) == (5, 5, 0)
    loaded = opened(shop, redis)
    found = score_items(loaded, "red sofa", [*IDS, "nobody", IDS[0]], 2)
    expected = loaded.scorer.score("red sofa", [*IDS, "nobody", IDS[0]])
    assert np.array_equal(found.known, [True] * 5 + [False, True])
    assert np.abs(found.probs - expected)[found.known].max() <= 1e-6
    assert found.candidates is not None
    assert found.candidates.found.trouble == ""
    loaded.store.close()


def test_only_changed_items_are_written_and_a_load_that_was_cut_off_goes_on(
    shop: Shop, redis: RedisServer, tmp_path: Path
) -> None:
    data = shop.data / "items.parquet"
    assert load_items(redis.url, shop.bundle)["written"] == 5
    # The data stage's items are encoded to the very bytes of the bundle's own.
    assert load_items(redis.url, shop.bundle, data)["unchanged"] == 5
    ids = tmp_path / "gone.csv"
    pl.DataFrame({"item_id": ["sofa", "lamp", "nobody"]}).write_csv(ids)
    told = delete_items(redis.url, shop.bundle, ids)
    assert (told["deleted"], told["absent"]) == (2, 1)
    told = load_items(redis.url, shop.bundle, data)
    assert (told["written"], told["unchanged"]) == (2, 3)


def test_another_encoding_reads_none_of_these_rows(
    shop: Shop, redis: RedisServer, tmp_path: Path, tiny_backbone: Path
) -> None:
    other = make_shop(tmp_path / "other", tiny_backbone / "tokenizer.json", seed=1)  # records of the same size
    assert encoding_of(open_bundle(other.bundle).description) != encoding_of(open_bundle(shop.bundle).description)
    load_items(redis.url, shop.bundle)
    loaded = opened(other, redis)
    assert not score_items(loaded, "red sofa", IDS, 100).known.any()
    assert load_items(redis.url, other.bundle)["written"] == 5
    loaded.store.close()
    loaded = opened(other, redis)
    expected = loaded.scorer.score("red sofa", IDS)
    assert np.abs(score_items(loaded, "red sofa", IDS, 100).probs - expected).max() <= 1e-6
    loaded.store.close()


def test_a_broken_value_is_an_unknown_item(shop: Shop, redis: RedisServer) -> None:
    load_items(redis.url, shop.bundle)
    loaded = opened(shop, redis, store_fresh=0)
    store = loaded.store
    assert isinstance(store, RedisStore)
    store.writer.set(store.prefix + "sofa", b"not a record")
    store.writer.delete(store.prefix + "rug")
    store.writer.hset(store.prefix + "rug", "a", "b")  # of another type: MGET gives nothing
    found = score_items(loaded, "red sofa", IDS, 100)
    assert found.known.tolist() == [False, True, False, True, True]
    store.close()


def test_the_cache_saves_reads_and_outlasts_an_outage(shop: Shop, redis: RedisServer) -> None:
    load_items(redis.url, shop.bundle)
    loaded = opened(shop, redis, store_fresh=60, store_cache=3)
    for hits, misses in ((0, 3), (3, 0)):
        told = loaded.store.find(["sofa", "table", "nobody"])
        assert (told.cache_hits, told.cache_misses, sorted(told.records)) == (hits, misses, [0, 1])
    loaded.store.find(["rug"])  # the fourth: the least recently used goes
    assert loaded.store.find(["table", "nobody", "sofa"]).cache_misses == 1
    loaded.store.close()

    loaded = opened(shop, redis, store_fresh=0)
    loaded.store.find(["sofa", "nobody"])
    redis.stop()
    told = loaded.store.find(["sofa", "table", "nobody"])
    assert list(told.records) == [0]  # old, but there
    assert told.trouble
    loaded.store.close()


def test_what_a_store_that_is_down_leaves_is_the_text_and_the_engagement(shop: Shop, redis: RedisServer) -> None:
    redis.stop()
    loaded = opened(shop, redis)
    found = score_documents(loaded, "red sofa", ["sofa", None, "rug"], [None, "Red sofa", "Green rug"], 100)
    assert found.known.tolist() == [False, True, True]
    with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
        loaded.store.put({"a": b"b"})
    loaded.store.close()


def test_a_hung_store_costs_a_few_requests_their_timeout_and_then_none(
    shop: Shop, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_items(redis.url, shop.bundle)
    loaded = opened(shop, redis, store_read_ms=40, store_failures=2)
    assert not loaded.store.find(IDS).trouble
    redis.hang()
    store = loaded.store
    assert isinstance(store, RedisStore)
    store.cache.forget(IDS)
    asked = Counter[str]()
    with monkeypatch.context() as patched:
        mget = store.reader.mget
        patched.setattr(store.reader, "mget", lambda keys: asked.update(["mget"]) or mget(keys))
        for _ in range(20):
            assert store.find(IDS).trouble
    assert asked["mget"] == 2  # each after its own timeout, or this would not come to an end
    redis.go_on()
    until(lambda: not loaded.store.find(IDS).trouble)
    assert len(loaded.store.find(IDS).records) == 5
    loaded.store.close()


def test_stopped_hung_and_restarted_under_requests(
    serve: Callable[..., Server], shop: Shop, redis: RedisServer
) -> None:
    load_items(redis.url, shop.bundle)
    server = serve(shop.bundle, "--workers", "2", "--store", redis.url, *FAST)
    wanted = probabilities(shop)
    rank = {**BODY, "engagement": [1.0, 5.0, 2.0, 4.0, 3.0]}
    rerank = {"query": "red sofa", "documents": [{"id": "sofa", "text": "Red sofa"}, {"id": "table"}]}
    wrong: list[str] = []
    seen: dict[bool, int] = {False: 0, True: 0}
    stop = threading.Event()

    def ask() -> None:
        with server.client() as client:
            while not stop.is_set():
                answer = client.post("/v1/score", json=BODY)
                problem = _problem(answer, wanted)
                if problem:
                    wrong.append(problem)
                else:
                    seen[answer.json()["degraded"]] += 1
                for path, body in (("/v1/rank", rank), ("/v1/rerank", rerank), ("/rerank", _tei(rerank))):
                    if (status := client.post(path, json=body).status_code) != 200:
                        wrong.append(f"{path}: {status}")
                time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with server.client() as client:

            def degraded() -> bool:
                return "store" in client.post("/v1/score", json=BODY).json()["degraded_by"]

            for harm, heal in ((redis.stop, redis.start), (redis.hang, redis.go_on), (redis.stop, redis.start)):
                until(lambda: not degraded())
                harm()
                until(degraded)
                found = client.post("/v1/rank", json=rank)
                assert found.headers["x-degraded"] in ("store", "unknown, store")
                heal()
            for _ in range(10):
                until(lambda: not degraded())
            text = client.get("/metrics").text
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert seen[False] > 0
    assert seen[True] > 0
    assert 'pertinent_degraded_total{reason="store"}' in text
    assert 'pertinent_stage_seconds_count{stage="store"}' in text
    assert any("does not answer" in line for line in server.lines)
    assert any("answers again" in line for line in server.lines)


def _tei(rerank: dict[str, Any]) -> dict[str, Any]:
    return {"query": rerank["query"], "texts": rerank["documents"]}


def _problem(answer: httpx2.Response, wanted: list[list[float]]) -> str:
    """Any answer is 200; each item has its own right scores or none, and none only where it is marked."""
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:200]}"
    document = answer.json()
    for item, probs in zip(document["items"], wanted, strict=True):
        if item["probabilities"] is None:
            if "unknown" not in document["degraded_by"]:
                return "an unmarked gap"
        elif item["probabilities"] != pytest.approx(probs, abs=1e-6):
            return "a wrong score"
    return ""


def test_items_are_put_and_deleted_while_it_serves(
    serve: Callable[..., Server], shop: Shop, redis: RedisServer
) -> None:
    server = serve(shop.bundle, "--workers", "2", "--store", redis.url, *FAST)
    wanted = probabilities(shop)
    with server.client(headers=HEADERS) as client:
        empty = client.post("/v1/score", json=BODY).json()
        assert (empty["unknown"], empty["degraded_by"]) == (IDS, ["unknown"])
        told = client.put("/v1/items", json={"items": ITEMS}).json()
        assert (told["written"], told["unchanged"]) == (5, 0)
        told = client.put("/v1/items", json={"items": ITEMS}).json()
        assert (told["written"], told["unchanged"]) == (0, 5)
        assert _problem(client.post("/v1/score", json=BODY), wanted) == ""
        assert client.post("/v1/score", json=BODY).json()["unknown"] == []
        told = client.request("DELETE", "/v1/items", json={"item_ids": ["rug", "rug", "nobody"]}).json()
        assert (told["deleted"], told["absent"]) == (1, 1)
        for _ in range(4):
            with server.client() as fresh:  # either worker
                assert fresh.post("/v1/score", json=BODY).json()["unknown"] == ["rug"]
        redis.stop()
        refused = client.put("/v1/items", json={"items": ITEMS})
        assert (refused.status_code, refused.json()["type"]) == (503, "store")


def test_a_server_starts_while_its_store_is_down(serve: Callable[..., Server], shop: Shop, redis: RedisServer) -> None:
    load_items(redis.url, shop.bundle)
    redis.stop()
    server = serve(shop.bundle, "--store", redis.url, *FAST)
    with server.client() as client:
        assert client.post("/v1/score", json=BODY).json()["degraded_by"] == ["unknown", "store"]
        redis.start()
        until(lambda: not client.post("/v1/score", json=BODY).json()["degraded"])


def test_a_password_is_not_told_and_a_bad_address_is_refused(shop: Shop) -> None:
    scorer = open_bundle(shop.bundle)
    store = open_store(Settings(bundle=shop.bundle, store="valkey://user:secret@127.0.0.1:1/3?timeout=1"), scorer)
    assert store.address == "valkey://***@127.0.0.1:1/3"
    store.close()
    store = open_store(Settings(bundle=shop.bundle, store="redis://:1/2@127.0.0.1:1"), scorer)
    assert store.address == "redis://***@127.0.0.1:1"  # of a password that is not escaped nothing is told either
    store.close()
    for address in ("redis://127.0.0.1:port", "redis://[::1"):
        with pytest.raises(ConfigError, match=f"--store {re.escape(address)}"):
            open_store(Settings(bundle=shop.bundle, store=address), scorer)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("redis://127.0.0.1:port", "--store redis://127.0.0.1:port: "),
        ("http://127.0.0.1", "expected redis://HOST:PORT/DB or a folder"),
    ],
)
def test_an_address_that_no_worker_could_use_is_refused_at_the_start(shop: Shop, address: str, said: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", MAIN, "serve", str(shop.bundle), "--port", "0", "--store", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_a_new_bundle_reads_its_own_rows_and_the_old_ones_stay_for_rollback(
    serve: Callable[..., Server], shop: Shop, redis: RedisServer, tmp_path: Path, tiny_backbone: Path
) -> None:
    other = make_shop(tmp_path / "other", tiny_backbone / "tokenizer.json", sides=False, seed=1)
    link = tmp_path / "current"
    link.symlink_to(shop.bundle)
    for one in (shop, other):
        load_items(redis.url, one.bundle)
    server = serve(link, "--workers", "2", "--store", redis.url, *FAST)
    with server.client(headers=HEADERS) as client:
        for change, one in (("/admin/reload", other), ("/admin/rollback", shop)):
            move(link, one.bundle)
            assert client.post(change, json={}).status_code == 200
            for _ in range(4):
                with server.client() as fresh:
                    answer = fresh.post("/v1/score", json=BODY)
                    assert answer.json()["bundle"] == hash_of(one.bundle)
                    assert _problem(answer, probabilities(one)) == ""
                    assert not answer.json()["degraded"]
