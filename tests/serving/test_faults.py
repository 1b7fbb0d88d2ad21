"""Faults brought upon the real process: killed workers, damaged files, a full disk, slow clients."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
import polars as pl
import pytest

from pertinent.pipeline.audit import audit
from pertinent.serving.bundles import hash_of
from pertinent.serving.feature_log import PATTERN
from servers import BODY, Load, Server, agrees, asked, probabilities, until

Serve = Callable[..., Server]


def killed_under_load(serve: Serve, bundle: Path, times: int) -> None:
    server = serve(bundle, "--workers", "2")
    with server.client() as client:
        until(lambda: client.get("/readyz").json()["workers"] == 2, 90)
    with Load(server, {hash_of(bundle): probabilities(bundle)}, threads=4) as load:
        for _ in range(times):
            before = server.workers()
            answered = load.seen.total()
            os.kill(before[0], signal.SIGKILL)
            until(lambda before=before: replaced(server, before[0]), 90)  # type: ignore[misc]
            assert load.seen.total() > answered
    # At most one request of each thread was in flight when a worker was killed, and no answer was a failure.
    assert len(load.failed) <= 4 * times
    assert not [failure for failure in load.failed if "AssertionError" in failure or failure == "mixed"]
    with server.client() as client:
        assert asked(client)


def replaced(server: Server, killed: int) -> bool:
    with server.client() as client:
        serving = client.get("/readyz").json()["workers"]
    running = server.workers()
    return serving == len(running) == 2 and killed not in running


def test_a_killed_worker_fails_its_own_requests_alone_and_comes_back(serve: Serve, bundles: tuple[Path, Path]) -> None:
    killed_under_load(serve, bundles[0], 1)


@pytest.mark.slow
def test_workers_are_killed_ten_times_under_load(serve: Serve, bundles: tuple[Path, Path]) -> None:
    killed_under_load(serve, bundles[0], 10)


def overwrite(folder: Path, source: Path) -> None:
    """Put the files of another bundle in the place of a bundle's, bundle.json last, as no operator should."""
    files = sorted(source.rglob("*"), key=lambda file: file.name == "bundle.json")
    for file in (file for file in files if file.is_file()):
        fresh = folder / "fresh"
        shutil.copyfile(file, fresh)
        os.replace(fresh, folder / file.relative_to(source))


def test_workers_that_die_over_a_damaged_bundle_wait_until_it_is_whole(
    serve: Serve, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundles[0], tmp_path / "bundle"))
    first, second = hash_of(bundles[0]), hash_of(bundles[1])
    server = serve(folder, "--workers", "2")
    with server.client() as client:
        until(lambda: client.get("/readyz").json()["workers"] == 2, 90)
    (tmp_path / "torn").write_bytes(b"half of a network")
    os.replace(tmp_path / "torn", folder / "student.onnx")
    one, other = server.workers()
    os.kill(one, signal.SIGKILL)
    with server.client() as client:
        until(lambda: client.get("/readyz").json()["waiting"] == 1, 90)
        assert client.get("/readyz").json() == {"status": "ready", "bundle": first, "workers": 1, "waiting": 1}
        assert "pertinent_waiting_workers 1.0" in client.get("/metrics").text
        for _ in range(10):
            with server.client() as fresh:
                assert asked(fresh)["bundle"] == first
    os.kill(other, signal.SIGKILL)
    until(lambda: sum("waits for a bundle that it can open" in line for line in server.lines) == 2, 90)
    assert re.search(r"student\.onnx: expected [\d,]+ bytes, found 17", "".join(server.lines))
    overwrite(folder, bundles[1])

    def both_serve() -> bool:
        with httpx2.Client(base_url=server.url, trust_env=False, timeout=2) as client:
            return client.get("/readyz").json() == {"status": "ready", "bundle": second, "workers": 2, "waiting": 0}

    until(both_serve, 90)
    with server.client() as client:
        assert agrees(asked(client), probabilities(bundles[1]))
    assert server.stop() == 0


def test_a_waiting_worker_ends_with_the_server(serve: Serve, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles[0], tmp_path / "bundle"))
    server = serve(folder)
    shutil.rmtree(folder)
    os.kill(server.workers()[0], signal.SIGKILL)
    until(lambda: any("waits for a bundle" in line for line in server.lines), 90)
    assert server.stop() == 0


@dataclass
class Disk:
    """A folder on a disk that can be filled and freed."""

    folder: Path
    fill: Callable[[], Any]
    free: Callable[[], Any]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of its own where one may be mounted, else a folder whose rights are taken away."""
    root = tmp_path / "disk"
    root.mkdir()
    folder, ballast = root / "log", root / "ballast"
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(root)]
    mounted = (
        shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while stream.write(b"x" * 4096):
                pass

    try:
        if mounted:
            yield Disk(folder, fill, ballast.unlink)
        elif os.geteuid() != 0:
            yield Disk(folder, lambda: folder.chmod(0o500), lambda: folder.chmod(0o700))
        else:
            pytest.skip("needs the right to mount a tmpfs, or a user whose rights can be taken away")
    finally:
        if mounted:
            subprocess.run(["umount", str(root)], check=True)


def test_a_full_disk_drops_rows_of_the_feature_log_and_fails_no_request(
    serve: Serve, bundles: tuple[Path, Path], disk: Disk
) -> None:
    options = ["--feature-log", disk.folder, "--feature-log-share", "1", "--set", "feature_log_seconds=0.1"]
    server = serve(bundles[0], *options)

    def rows(outcome: str) -> float:
        with server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        name = f'pertinent_feature_log_rows_total{{outcome="{outcome}"}} '
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)

    with server.client() as client:
        asked(client)
        until(lambda: rows("written") == 6)
        disk.fill()
        with Load(server, {hash_of(bundles[0]): probabilities(bundles[0])}) as load:
            until(lambda: rows("dropped") > 12)
        assert load.failed == []
        until(lambda: rows("written") + rows("dropped") == 6 * (1 + load.seen.total()))
        disk.free()
        asked(client)
        until(lambda: rows("written") == 12)
    assert server.stop() == 0
    told = [line for line in server.lines if line.startswith("feature log:")]
    assert len(told) == 2, told
    assert "cannot be written" in told[0]
    assert told[1].endswith("written again\n")
    files = list(disk.folder.iterdir())
    assert {file.match(PATTERN) for file in files} == {True}  # nothing half written
    assert sum(pl.read_parquet(file).height for file in files) == 12
    assert not audit(disk.folder, bundles[0])["skew"]


HEAD = b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"


@dataclass(frozen=True)
class Slow:
    """A client that sends ``at_once``, then ``drop`` again and again."""

    at_once: bytes = field(repr=False)
    drop: bytes

    def cut_off_after(self, server: Server) -> float:
        """Seconds until the server hung up, 99 if it did not within 15."""
        address = httpx2.URL(server.url)
        began = time.monotonic()
        with socket.socket() as client:
            client.connect((address.host, address.port))
            client.settimeout(0.1)
            try:
                client.sendall(self.at_once)
                while time.monotonic() - began < 15:
                    client.send(self.drop)
                    with contextlib.suppress(TimeoutError):
                        if client.recv(65_536) == b"":
                            return time.monotonic() - began
            except OSError:  # the server hung up between our bytes
                return time.monotonic() - began
        return 99.0


ANSWERED = HEAD % len(orjson.dumps(BODY)) + orjson.dumps(BODY)
SLOW = {
    "silent": Slow(b"", b""),
    "blank lines": Slow(b"", b"\r\n"),
    "request line": Slow(b"GET /", b"a"),
    "header": Slow(b"GET / HTTP/1.1\r\nx: ", b"a"),
    "body": Slow(HEAD % 1_000, b" "),
    "body of a path that reads none": Slow(b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n", b" "),
    "second header of a kept connection": Slow(ANSWERED + b"GET /", b"a"),
    "blank lines of a kept connection": Slow(ANSWERED, b"\r\n"),
}


def test_slow_clients_are_cut_off_and_hold_nobody_up(serve: Serve, bundles: tuple[Path, Path]) -> None:
    timeouts = [f"{name}_timeout=0.8" for name in ("head", "body", "answer")]
    sets = [part for one in timeouts for part in ("--set", one)]
    server = serve(bundles[0], *sets)
    with ThreadPoolExecutor(len(SLOW) * 4) as pool, server.client() as client:
        cut = {name: [pool.submit(slow.cut_off_after, server) for _ in range(4)] for name, slow in SLOW.items()}
        time.sleep(0.3)
        every, answered = [future for futures in cut.values() for future in futures], 0
        while not any(future.done() for future in every):
            asked(client)
            answered += not any(future.done() for future in every)
        assert answered  # while they all were there
        seconds = {name: [future.result() for future in futures] for name, futures in cut.items()}
        assert min(min(each) for each in seconds.values()) > 0.6, seconds
        assert max(max(each) for each in seconds.values()) < 15, seconds
        asked(client)


def open_sockets(server: Server) -> int:
    files = [file for pid in server.workers() for file in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(str(file.readlink()).startswith("socket:") for file in files if file.is_symlink())


def test_a_client_that_takes_no_answer_is_cut_off(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0], "--set", "answer_timeout=0.5")
    time.sleep(0.5)  # the connection that waited for the server to be ready is closed by then
    address, before = httpx2.URL(server.url), open_sockets(server)
    with contextlib.ExitStack() as held:
        for _ in range(4):
            client = held.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((address.host, address.port))
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n" * 1_000)
        until(lambda: open_sockets(server) > before)
        # The kernel holds what is on its way; the worker lets go of the rest.
        until(lambda: open_sockets(server) == before)
        with server.client() as other:
            asked(other)


def test_an_endless_head_is_cut_off(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0])
    address = httpx2.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for k in range(100_000):
                client.sendall(b"x-%d: %s\r\n" % (k, b"a" * 1_000))
        assert k < 10_000
    with server.client() as other:
        asked(other)
