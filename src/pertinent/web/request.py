"""One HTTP request with limits on time, size, redirects, content type and address; and second tries.

Built on http.client, for the connection must be to the very address that was checked. No proxy is used: through one,
the address that is connected to could not be checked.
"""

from __future__ import annotations

import email.utils
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

from pertinent.web.addresses import AddressError, connect
from pertinent.web.config import RetryConfig

T = TypeVar("T")
USER_AGENT = "pertinent"
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 529)
_CHUNK_BYTES = 65_536


class WebError(Exception):
    """A request failed. Its text is a quarantine reason: "WHAT must be EXPECTED, got FOUND".

    transient: whether another try may do better. retry_after_s: what the server asked to wait. status: of an answer.
    """

    def __init__(
        self, reason: str, *, transient: bool = False, retry_after_s: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(reason)
        self.transient, self.retry_after_s, self.status = transient, retry_after_s, status


@dataclass(frozen=True)
class Limits:
    """Of one request. what: how reasons name it ("image"). content_types: allowed beginnings; () allows any.

    allow_hosts: lower case, may have local addresses.
    """

    what: str
    timeout_s: float
    max_bytes: int
    max_redirects: int = 0
    content_types: tuple[str, ...] = ()
    allow_hosts: frozenset[str] = frozenset()
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)


def request(
    method: str, url: str, limits: Limits, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The body of a 200 answer. Raises WebError for anything else."""
    deadline_s = time.monotonic() + limits.timeout_s
    for _ in range(limits.max_redirects + 1):
        answer = _once(method, url, limits, deadline_s, body, headers or {})
        if isinstance(answer, bytes):
            return answer
        url = urljoin(url, answer.location)
    raise WebError(f"{limits.what} must come after at most {limits.max_redirects} redirects, got another one")


def with_retries(
    call: Callable[[], T],
    config: RetryConfig,
    stop: threading.Event,
    draw: Callable[[], float] = random.random,
) -> T:
    """``call()``, tried again after a transient WebError: exponential backoff with jitter, no earlier than Retry-After.

    stop: once set, no further try is made. draw: uniform on [0, 1). Raises the WebError of the last try.
    """
    for attempt in range(1, config.attempts + 1):
        try:
            return call()
        except WebError as error:
            asked_s = error.retry_after_s or 0.0
            if not error.transient or attempt == config.attempts or asked_s > config.max_retry_after_s:
                raise
            own_s = min(config.base_s * 2 ** (attempt - 1), config.max_s) * (1.0 - 0.5 * draw())
            if stop.wait(max(own_s, asked_s)):
                raise
    raise AssertionError("attempts is at least 1")


@dataclass(frozen=True)
class _Redirect:
    location: str


def _once(
    method: str, url: str, limits: Limits, deadline_s: float, body: bytes | None, headers: Mapping[str, str]
) -> bytes | _Redirect:
    """One exchange; whatever goes wrong is told as a WebError."""
    timeout = WebError(f"{limits.what} must come within {limits.timeout_s:g} s, got a timeout", transient=True)
    try:
        connection = _open(url, limits, deadline_s)
    except TimeoutError:
        raise timeout from None
    except AddressError as refused:
        raise WebError(f"{limits.what} must come from a public address or an allowed host, got {refused}") from None
    except (OSError, UnicodeError) as error:
        raise WebError(
            f"{limits.what} must come from a server that can be reached, got {_reason(error)}",
            transient=not _lasting(error),
        ) from None
    # A server that drips bytes keeps each read short: only this ends the exchange in time.
    watchdog = threading.Timer(max(deadline_s - time.monotonic(), 0), _shut, [connection.sock])
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.request(method, _target(url), body, {"User-Agent": USER_AGENT, **headers})
        with connection.getresponse() as response:
            answer = _read(response, limits)
        # Shut in the midst of the head, or of a body of untold length, it seems whole.
        if time.monotonic() >= deadline_s:
            raise timeout
        return answer
    except (WebError, OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline_s or isinstance(error, TimeoutError):
            raise timeout from None
        if isinstance(error, WebError):
            raise
        raise WebError(f"{limits.what} must come whole, got {_reason(error)}", transient=True) from None
    finally:
        watchdog.cancel()
        connection.close()


def _lasting(error: Exception) -> bool:
    """Whether another try would fare no better: a bad certificate or name, or a host that no resolver knows."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLCertVerificationError | UnicodeError)


def _open(url: str, limits: Limits, deadline_s: float) -> http.client.HTTPConnection:
    """A connection whose socket is open to a checked address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise WebError(f"{limits.what} must be a valid URL, got {url[:100]!r}") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise WebError(f"{limits.what} must be an http or https URL with a host and no user, got {url[:100]!r}")
    secure = parts.scheme == "https"
    port = port or (443 if secure else 80)
    ascii_host = host if ":" in host else host.encode("idna").decode("ascii")
    sock = connect(ascii_host, port, allowed=host.lower() in limits.allow_hosts, deadline_s=deadline_s)
    sock.settimeout(max(deadline_s - time.monotonic(), 0.001))
    connection = http.client.HTTPConnection(ascii_host, port)
    if secure:
        connection.default_port = 443  # so that Host names no port where it is the usual one
        try:
            sock = limits.context.wrap_socket(sock, server_hostname=ascii_host)
        except BaseException:
            sock.close()
            raise
    connection.sock = sock
    return connection


def _read(response: http.client.HTTPResponse, limits: Limits) -> bytes | _Redirect:
    location = response.headers.get("Location")
    if response.status in _REDIRECTS and location:
        return _Redirect(location)
    if response.status != 200:
        raise WebError(
            f"{limits.what} must be answered with status 200, got {response.status}",
            transient=response.status in _TRANSIENT,
            retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
            status=response.status,
        )
    kind = response.headers.get("Content-Type", "").strip().lower()
    if kind and limits.content_types and not kind.startswith(limits.content_types):
        allowed = ", ".join(limits.content_types)
        raise WebError(f"{limits.what} must have a content type of {allowed}, got {kind[:60]}")
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", ""):
        raise WebError(f"{limits.what} must come as it is, as was asked, got content encoding {packing[:20]}")
    too_large = WebError(f"{limits.what} must have at most {limits.max_bytes:,} bytes, got more")
    due_bytes = response.length  # by Content-Length; None where it comes in chunks, which tell their own end
    if (due_bytes or 0) > limits.max_bytes:
        raise too_large
    parts, n_bytes = [], 0
    while part := response.read1(_CHUNK_BYTES):
        n_bytes += len(part)
        if n_bytes > limits.max_bytes:
            raise too_large
        parts.append(part)
    if due_bytes is not None and n_bytes < due_bytes:
        raise WebError(f"{limits.what} must come whole, got a cut-off answer", transient=True)
    return b"".join(parts)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from now of a Retry-After header: a number or an HTTP date; None where there is none or it is neither."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    with suppress(ValueError):
        due = email.utils.parsedate_to_datetime(value)
        return max((due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _target(url: str) -> str:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe="/%:=&?~#+!$,;'@()*[]")


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own would first say goodbye


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionResetError):
        return "a cut-off answer"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
