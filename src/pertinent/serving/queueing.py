"""One worker's queue: one scoring thread, a bound on what is admitted, and a deadline for each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pertinent.serving.problems import shed

T = TypeVar("T")
_RECENT = 0.1  # weight of the newest service time in the running mean


class Queue:
    """Runs work one piece at a time on a thread of its own. To be used from one event loop.

    size: requests admitted at once, the running one among them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.admitted = 0
        self.service_s = 0.0  # running mean
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")

    async def run(self, work: Callable[[], T], deadline_s: float) -> tuple[T, float]:
        """The result of ``work``, and the seconds it waited.

        deadline_s: from now until the work must have been started. Raises Refusal 503 at once when the queue is full
        or its expected wait is longer than that, and at the deadline when the work has not begun.
        """
        wait_s = self.admitted * self.service_s
        if self.admitted >= self.size:
            raise shed(f"the queue is full: {self.admitted} requests", wait_s)
        if wait_s > deadline_s:
            raise shed("the deadline would pass in the queue", wait_s)
        self.admitted += 1
        try:
            return await self._submitted(work, deadline_s)
        finally:
            self.admitted -= 1

    async def _submitted(self, work: Callable[[], T], deadline_s: float) -> tuple[T, float]:
        asked = time.perf_counter()
        future = self._thread.submit(self._timed, work)
        waiter = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({waiter}, timeout=deadline_s)
        if not done and future.cancel():
            raise shed("the deadline passed in the queue", self.admitted * self.service_s)
        result, started = await waiter
        return result, started - asked

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        started = time.perf_counter()
        try:
            return work(), started
        finally:
            spent = time.perf_counter() - started
            self.service_s += _RECENT * (spent - self.service_s) if self.service_s else spent

    def close(self) -> None:
        """Let what runs finish."""
        self._thread.shutdown(wait=True)
