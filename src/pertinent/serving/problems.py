"""What goes wrong with a request, as the client is told."""

from __future__ import annotations

import math


class Refusal(Exception):  # noqa: N818  not a bug, an answer
    """A request that is answered with a status of 4xx or 503 and one line."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers or {}


def shed(reason: str, wait_s: float) -> Refusal:
    """503 with Retry-After, in whole seconds and at least 1."""
    return Refusal(503, "overloaded", reason, {"retry-after": str(max(1, math.ceil(wait_s)))})
