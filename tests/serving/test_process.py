"""The real process: several workers, hot swap, kill -9, overload, SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pertinent.serving.bundles import hash_of
from pertinent.serving.metrics import alive
from servers import ADMIN, IDS, MAIN, Load, Server, asked, move, probabilities, until

Serve = Callable[..., Server]
HEADERS = {"authorization": f"Bearer {ADMIN}"}


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

        answers = [client.post("/admin/reload", json={"bundle": str(damaged)})]
        while answers[-1].status_code == 409:  # the reload by the link serves already, and may not be over yet
            assert len(answers) < 100
            time.sleep(0.05)
            answers.append(client.post("/admin/reload", json={"bundle": str(damaged)}))
        refused = answers[-1]
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


def test_a_killed_process_is_not_alive_before_its_parent_has_seen_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still to be waited for
    assert not alive(process.pid)
    process.communicate()
    assert not alive(process.pid)
    assert alive(os.getpid())


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
