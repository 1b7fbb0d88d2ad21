"""uvicorn's HTTP protocol with limits on slow clients: uvicorn itself waits for a head, a body or a reader for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pertinent.serving.settings import Settings

_GRACE_S = 1.0  # the app answers a slow body with 408 by itself; what no endpoint reads is cut off here, a little later
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo slow"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n"
    b"connection: close\r\n\r\ntoo large"
)


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose head, body or reading of an answer takes too long, or whose head is too large.

    A head may take settings.head_timeout seconds, from the connection or its first byte, and settings.max_head_bytes;
    a body settings.body_timeout and a little; an answer settings.answer_timeout while the client takes none of it.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._settings: Settings = self.app_state["settings"]
        self._receiving: Literal["head", "body", "nothing"] = "nothing"
        self._head_bytes = 0
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._request_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._receiving == "nothing":
            self._expect_head()
        super().data_received(data)
        if self._receiving == "head":
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.max_head_bytes:
                self._cut(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._receiving != "head":
            self._expect_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._receiving, self._head_bytes = "body", 0
        self._within(self._settings.body_timeout + _GRACE_S)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._receiving = "nothing"
        if self._request_timer is not None:
            self._request_timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_timer = self._later(self._settings.answer_timeout, lambda: self.transport.abort())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()

    def _expect_head(self) -> None:
        self._receiving, self._head_bytes = "head", 0
        self._within(self._settings.head_timeout)

    def _within(self, seconds: float) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = self._later(seconds, lambda: self._cut(_TOO_SLOW))

    def _later(self, seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, then)

    def _cut(self, answer: bytes) -> None:
        if self.transport.is_closing():
            return
        # An answer to the request before may still be on its way: what follows it would be read as a part of it.
        if self.transport.get_write_buffer_size() or not (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()
            return
        self.transport.write(answer)
        self.transport.close()
