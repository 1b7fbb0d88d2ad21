"""A real redis-server on a free loopback port, started by a benchmark or a test."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from pertinent.errors import DataError

COMMAND = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "no redis-server here: apt-get install redis-server"


@dataclass
class RedisServer:
    """A running server that keeps what it has in ``folder`` when it is stopped."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As `--store` takes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns once it answers. Raises DataError where there is none here, or it does not start."""
        if COMMAND is None:
            raise DataError(MISSING)
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", "3600 1"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([COMMAND, *options, "--daemonize", "no"], **quiet)  # type: ignore[call-overload]
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                    asked.sendall(b"PING\r\n")
                    if asked.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise DataError("redis-server: expected it to answer a PING within 20 s of its start, found no answer")

    def hang(self) -> None:
        """Stop its process where it stands: connections open, no answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Saves first, as an operator's stop does."""
        if self.process is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            self.process.wait(timeout=20)
        self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


def start_redis(folder: Path) -> RedisServer:
    """Started on a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = RedisServer(port, folder)
    server.start()
    return server
