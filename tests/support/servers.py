"""A server in a process of its own, as a test starts it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pertinent.bundle import open_bundle

ADMIN = "an-admin-key-of-a-test"
IDS = [f"i{k}" for k in range(6)]  # the items of the bundles of tests/serving
BODY = {"query": "red sofa", "item_ids": IDS}
MAIN = "from pertinent.cli import main; main()"


def move(link: Path, target: Path) -> None:
    """Point a link elsewhere in one step, as an operator does it."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    os.replace(fresh, link)


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until ``true`` gives something; fail after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx2.HTTPError):
            if found := true():
                return found
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


@dataclass
class Server:
    """A started `pertinent serve`. lines: what it wrote to stderr."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, trust_env=False, timeout=20, **options)

    def workers(self) -> list[int]:
        """Pids of the workers: children of the parent that run the app, not multiprocessing's tracker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def follow(self) -> None:
        """Read the rest of its stderr as it comes."""
        stream = self.process.stderr
        assert stream is not None
        self.reader = threading.Thread(target=lambda: self.lines.extend(stream), daemon=True)
        self.reader.start()

    def close(self) -> None:
        """After its end."""
        self.reader.join(timeout=10)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def start_server(arguments: list[str], environment: dict[str, str] | None = None) -> Server:
    """`pertinent serve ... --port 0`, once it is ready."""
    command = [sys.executable, "-W", "ignore", "-c", MAIN, "serve", *arguments, "--port", "0"]
    told = {**os.environ, "PERTINENT_ADMIN_KEYS": ADMIN, **(environment or {})}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=told)
    server = Server(process)
    assert process.stderr is not None
    for line in process.stderr:
        server.lines.append(line)
        if found := re.match(r"serve: (http://\S+)", line):
            server.url = found[1]
            break
    assert server.url, server.lines
    server.follow()
    with server.client() as client:
        until(lambda: client.get("/readyz").status_code == 200, 40)
    return server


def probabilities(bundle: Path) -> list[list[float]]:
    return open_bundle(bundle).score("red sofa", IDS).astype(float).tolist()


def asked(client: httpx2.Client) -> Any:
    answer = client.post("/v1/score", json=BODY)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-bundle"] == answer.json()["bundle"]
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
