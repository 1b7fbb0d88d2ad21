"""A server in a process of its own, as a test starts it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

ADMIN = "an-admin-key-of-a-test"
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
