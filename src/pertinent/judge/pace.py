"""Rate limits: calls start evenly, no more than so many requests and tokens a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Gives each call its moment. Safe to share between threads; None: no limit.

    Calls are spread evenly over the minute rather than let loose at its start, so a server that counts by the second
    is content too.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._s_per_request = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._s_per_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock, self._lock = clock, threading.Lock()
        self._request_at = self._token_at = float("-inf")

    def book(self, n_tokens: int) -> float:
        """Seconds that a call of so many tokens has to wait from now; its place is taken."""
        with self._lock:
            now = self._clock()
            at = max(now, self._request_at, self._token_at)
            if self._s_per_request:
                self._request_at = at + self._s_per_request
            if self._s_per_token:
                self._token_at = at + n_tokens * self._s_per_token
            return at - now

    def correct(self, n_tokens: int) -> None:
        """The call had so many tokens more (or, below 0, fewer) than were booked."""
        with self._lock:
            self._token_at += n_tokens * self._s_per_token

    def hold(self, seconds: float) -> None:
        """No call starts within so many seconds: the server asked for it."""
        with self._lock:
            self._request_at = max(self._request_at, self._clock() + seconds)
