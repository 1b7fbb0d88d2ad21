"""A circuit breaker: after a few failures in a row nobody waits for a store any more until it answers again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Closed (the store is asked) until ``failures`` in a row; then open until ``probe`` succeeds.

    The probe runs every ``retry_s`` seconds on a thread of its own, so that no request pays for a store that is down.
    on_change: told whether the store is reachable, at each change.
    """

    def __init__(
        self, failures: int, retry_s: float, probe: Callable[[], object], on_change: Callable[[bool], None]
    ) -> None:
        self._limit, self._retry_s, self._probe, self._on_change = failures, retry_s, probe, on_change
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._stop = threading.Event()
        self._open = False
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the store is not to be asked."""
        return self._open

    def succeeded(self) -> None:
        """The store answered in time."""
        with self._lock:
            self._in_a_row = 0

    def failed(self, reason: str) -> None:
        """The store did not answer, or not in time."""
        with self._lock:
            self._in_a_row += 1
            self.reason = reason
            if self._open or self._in_a_row < self._limit or self._stop.is_set():
                return
            self._open = True
        self._on_change(False)
        threading.Thread(target=self._until_it_answers, name="store-probe", daemon=True).start()

    def _until_it_answers(self) -> None:
        while not self._stop.wait(self._retry_s):
            began = time.monotonic()
            try:
                self._probe()
            except Exception as error:  # whatever a client library raises, the store is not back
                self.reason = f"{type(error).__name__}: {time.monotonic() - began:.3f} s"
                continue
            with self._lock:
                self._open, self._in_a_row = False, 0
            self._on_change(True)
            return

    def close(self) -> None:
        """Stop probing."""
        self._stop.set()
