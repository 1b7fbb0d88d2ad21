"""The real process: several workers, hot swap, kill -9, overload, SIGTERM."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pertinent.bundle import open_bundle
from pertinent.serving.bundles import hash_of
from servers import ADMIN, MAIN, Server, move, until

Serve = Callable[..., Server]
IDS = [f"i{k}" for k in range(6)]
BODY = {"query": "red sofa", "item_ids": IDS}
HEADERS = {"authorization": f"Bearer {ADMIN}"}


def probabilities(bundle: Path) -> list[list[float]]:
    return open_bundle(bundle).score("red sofa", IDS).astype(float).tolist()


def asked(client: httpx2.Client) -> Any:
    answer = client.post("/v1/score", json=BODY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def agrees(answer: Any, wanted: list[list[float]]) -> bool:
    found = [item["probabilities"] for item in answer["items"]]
    pairs = zip(found, wanted, strict=True)
    return all(a == pytest.approx(b, abs=1e-6) for a, b in pairs)


class Load:
    """Keeps asking on threads of its own until it is stopped; each answer must be one bundle's, whole."""

    def __init__(self, server: Server, wanted: dict[str, list[list[float]]], threads: int = 2) -> None:
        self.server, self.wanted = server, wanted
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stop = threading.Event()
        self.pool = ThreadPoolExecutor(threads)
        self.threads = threads

    def __enter__(self) -> Load:
        self.futures = [self.pool.submit(self._ask) for _ in range(self.threads)]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for future in self.futures:
            future.result()
        self.pool.shutdown()

    def _ask(self) -> None:
        with self.server.client() as client:
            while not self.stop.is_set():
                try:
                    answer = asked(client)
                except (httpx2.HTTPError, AssertionError) as error:
                    self.failed.append(repr(error))
                    continue
                if not agrees(answer, self.wanted[answer["bundle"]]):
                    self.failed.append("mixed")
                self.seen[answer["bundle"]] += 1
                time.sleep(random.random() * 0.005)


def swapped_under_load(serve: Serve, link: Path, bundles: tuple[Path, Path], times: int) -> None:
    server = serve(link, "--workers", "2")
    wanted = {hash_of(bundle): probabilities(bundle) for bundle in bundles}
    with server.client(headers=HEADERS) as admin, Load(server, wanted) as load:
        for k in range(1, times + 1):
            move(link, bundles[k % 2])
            answer = until(lambda: reloaded(admin))
            assert answer["bundle"]["hash"] == hash_of(bundles[k % 2])
            # Every worker has switched by the time the answer is there: fresh connections reach either of them.
            for _ in range(4):
                with server.client() as fresh:
                    assert asked(fresh)["bundle"] == hash_of(bundles[k % 2])
    assert load.failed == []
    assert set(load.seen) == set(wanted)


def reloaded(admin: httpx2.Client) -> Any:
    answer = admin.post("/admin/reload", json={})
    assert answer.status_code in (200, 409), answer.text
    return answer.json() if answer.status_code == 200 else None


def test_a_bundle_is_swapped_under_load_without_a_failed_or_mixed_answer(
    serve: Serve, link: Path, bundles: tuple[Path, Path]
) -> None:
    swapped_under_load(serve, link, bundles, 3)


@pytest.mark.slow
def test_a_bundle_is_swapped_fifty_times_under_load(serve: Serve, link: Path, bundles: tuple[Path, Path]) -> None:
    swapped_under_load(serve, link, bundles, 50)


def test_a_moved_link_is_followed_a_damaged_bundle_refused_and_the_old_one_kept(
    serve: Serve, link: Path, bundles: tuple[Path, Path], damaged: Path
) -> None:
    first, second = (hash_of(bundle) for bundle in bundles)
    server = serve(link)
    with server.client(headers=HEADERS) as client:
        move(link, bundles[1])
        until(lambda: asked(client)["bundle"] == second)
        assert client.get("/admin/bundle").json()["previous"]["hash"] == first

        refused = client.post("/admin/reload", json={"bundle": str(damaged)})
        assert refused.status_code == 422
        assert "parity: p_2" in refused.json()["message"]
        move(link, damaged)
        until(lambda: 'pertinent_reloads_total{outcome="refused"} 2.0' in client.get("/metrics").text)
        assert asked(client)["bundle"] == second

        assert client.post("/admin/rollback").json()["bundle"]["hash"] == first
        assert asked(client)["bundle"] == first
        time.sleep(0.6)  # two looks at the link, which still points to the damaged one
        assert asked(client)["bundle"] == first


def test_a_killed_worker_comes_back_and_serves_what_is_committed(
    serve: Serve, link: Path, bundles: tuple[Path, Path]
) -> None:
    second = hash_of(bundles[1])
    server = serve(link, "--workers", "2")
    with server.client(headers=HEADERS) as client:
        move(link, bundles[1])
        until(lambda: asked(client)["bundle"] == second)
    before = server.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(server.workers()) == 2 and before[0] not in server.workers(), 40)

    def both_serve() -> bool:
        with server.client() as client:
            assert asked(client)["bundle"] == second
            text = client.get("/metrics").text
        return f'pertinent_bundle{{hash="{second}"}} 2.0' in text

    until(both_serve, 40)


def test_beyond_the_queue_503_at_once_and_the_admitted_are_answered(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0], "--set", "queue=2", "--set", "max_candidates=200000")
    heavy = {"query": "red sofa", "item_ids": IDS * 2_500}
    with ThreadPoolExecutor(12) as pool, server.client() as client:
        answers = list(pool.map(lambda _: client.post("/v1/score", json=heavy), range(12)))
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 503}
        assert statuses[200] >= 2
        for answer in answers:
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["type"] == "overloaded"
        text = client.get("/metrics").text
        assert f"pertinent_shed_total {statuses[503]}.0" in text
        assert asked(client)


def test_sigterm_lets_the_request_in_flight_end_and_exits_with_0(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0], "--set", "max_candidates=200000")
    heavy = {"query": "red sofa", "item_ids": IDS * 5_000}
    with ThreadPoolExecutor(1) as pool, server.client() as client:
        asked(client)
        answer = pool.submit(lambda: client.post("/v1/score", json=heavy))
        until(lambda: "pertinent_queue 1.0" in httpx2.get(server.url + "/metrics", trust_env=False).text)
        assert server.stop() == 0
        assert answer.result().status_code == 200
        assert len(answer.result().json()["items"]) == 30_000
    with pytest.raises(httpx2.ConnectError), server.client() as client:
        client.get("/healthz")


def test_the_shadow_scores_a_share_and_its_difference_is_told(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0], "--shadow", bundles[1], "--shadow-share", "1")
    with server.client() as client:
        answer = asked(client)
        assert answer["bundle"] == hash_of(bundles[0])
        until(lambda: "pertinent_shadow_requests_total 1.0" in client.get("/metrics").text)
        text = client.get("/metrics").text
        gap = abs(relevance(bundles[1]) - relevance(bundles[0]))
        line = next(line for line in text.splitlines() if line.startswith("pertinent_shadow_difference_sum"))
        assert float(line.split()[1]) == pytest.approx(gap, abs=1e-6)


def relevance(bundle: Path) -> float:
    p = probabilities(bundle)[0]
    return (p[1] + 3 * p[2]) / 3


def test_a_damaged_bundle_is_refused_at_the_start_with_exit_2(damaged: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", MAIN, "serve", str(damaged), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("pertinent: ")
    assert "parity: p_2" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_slow_body_is_cut_off_and_holds_nobody_up(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0], "--set", "body_timeout=0.5")

    def drip() -> Any:
        for _ in range(50):
            yield b" "
            time.sleep(0.1)

    with ThreadPoolExecutor(8) as pool, server.client() as client:

        def slow(_: int) -> int:
            try:
                with server.client() as mine:
                    return mine.post("/v1/score", content=drip()).status_code
            except httpx2.HTTPError:  # the server hung up while the body was still being sent
                return 408

        dripping = [pool.submit(slow, k) for k in range(8)]
        time.sleep(0.2)
        began = time.perf_counter()
        asked(client)
        assert time.perf_counter() - began < 0.4
        assert {future.result() for future in dripping} == {408}


def test_hostile_bytes_never_give_a_500(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0])
    assert hostile(server, 300, bundles[0]) == []


@pytest.mark.slow
def test_ten_thousand_hostile_requests_and_no_growth(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0])
    hostile(server, 1_000, bundles[0])
    before = resident_bytes(server)
    assert hostile(server, 9_000, bundles[0]) == []
    assert resident_bytes(server) - before < 20_000_000


def resident_bytes(server: Server) -> int:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.workers()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def hostile(server: Server, n: int, bundle: Path) -> list[str]:
    """Bodies that are cut, flipped, spliced or nested, to every path; returns the answers that are wrong."""
    chance = random.Random(7)
    paths = ["/v1/score", "/v1/rank", "/v1/rerank", "/v2/rerank", "/rerank", "/admin/reload", "/healthz", "/%00"]
    good = [
        b'{"query":"red sofa","item_ids":["i0","i1"],"engagement":[1e308,-1e308],"context":{"a":1}}',
        b'{"query":"\xe2\x80\xae","documents":["a",{"id":"i0"}],"top_n":1}',
        b'{"query":"a","texts":["' + b"\xf0\x9f\xa6\x9c" * 500 + b'"],"raw_scores":true}',
        b'{"query":"a","item_ids":["i0"],"engagement":[1e308],"blend":{"kind":"product","engagement_weight":1000}}',
    ]
    wrong = []
    with server.client() as client:
        for _ in range(n):
            body = bytearray(chance.choice(good))
            kind = chance.randrange(5)
            if kind == 0:
                body = body[: chance.randrange(len(body))]
            elif kind == 1:
                for _ in range(chance.randrange(1, 8)):
                    body[chance.randrange(len(body))] = chance.randrange(256)
            elif kind == 2:
                body = body[:10] + b"[" * chance.randrange(3_000) + body[10:]
            elif kind == 3:
                at = chance.randrange(len(body))
                body[at:at] = chance.choice([b"\x00", b"null", b"1e999", b"-0", b'"\\ud800"', b"{}", b"9" * 400])
            headers = {"content-type": chance.choice(["application/json", "text/plain", "multipart/form-data"])}
            answer = client.request(
                chance.choice(["POST", "POST", "POST", "PUT", "GET"]),
                chance.choice(paths),
                content=bytes(body),
                headers=headers,
            )
            if answer.status_code >= 500 or "Traceback" in answer.text:
                wrong.append(f"{answer.status_code} for {bytes(body[:200])!r}")
        if not agrees(asked(client), probabilities(bundle)):
            wrong.append("a wrong answer after")
    return wrong
