from __future__ import annotations

import email.utils
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pertinent.web.config import RetryConfig
from pertinent.web.request import Limits, WebError, _retry_after_s, request, with_retries

HERE = frozenset({"127.0.0.1"})


def limits(**changes: Any) -> Limits:
    kept: dict[str, Any] = {
        "what": "image",
        "timeout_s": 5.0,
        "max_bytes": 1_000,
        "max_redirects": 2,
        "content_types": ("image/",),
        "allow_hosts": HERE,
    }
    return Limits(**{**kept, **changes})


def reason(url: str, **changes: Any) -> str:
    with pytest.raises(WebError) as error:
        request("GET", url, limits(**changes))
    return str(error.value)


def test_the_body_of_a_good_answer(server: Any) -> None:
    url = server.put("a b/ä.png", b"x" * 1_000)
    server.files["/a%20b/%C3%A4.png?size=1"] = server.files["/a b/ä.png"]
    assert request("GET", url + "?size=1", limits()) == b"x" * 1_000
    assert server.gotten == ["/a%20b/%C3%A4.png?size=1"]


def test_an_address_of_our_own_network_is_refused(server: Any) -> None:
    url = server.put("x.png", b"x")
    found = "127.0.0.1 at 127.0.0.1 (loopback)"
    assert (
        reason(url, allow_hosts=frozenset()) == f"image must come from a public address or an allowed host, got {found}"
    )
    assert server.gotten == []


def test_each_redirect_is_checked_anew(server: Any) -> None:
    """An allowed host that redirects to another name of the same machine."""
    server.put("x.png", b"x")
    server.redirects["/away"] = f"http://localhost:{server.port}/x.png"
    found = reason(f"{server.url}/away")
    assert found.startswith("image must come from a public address or an allowed host, got localhost at ")
    assert found.endswith("(loopback)")
    assert server.gotten == ["/away"]
    assert request("GET", f"{server.url}/away", limits(allow_hosts=HERE | {"localhost"})) == b"x"


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "http://u:p@127.0.0.1/"]
)
def test_a_redirect_to_anything_but_http_is_refused(server: Any, target: str) -> None:
    server.redirects["/away"] = target
    assert reason(f"{server.url}/away") == f"image must be an http or https URL with a host and no user, got {target!r}"


def test_redirects_are_followed_to_a_limit(server: Any) -> None:
    server.put("3", b"x")
    server.redirects |= {"/0": "/1", "/1": "2", "/2": "3"}
    assert reason(f"{server.url}/0") == "image must come after at most 2 redirects, got another one"
    assert request("GET", f"{server.url}/1", limits()) == b"x"


@pytest.mark.parametrize("url", ["http://[::1", "http://x:99999/", "http://", "https://"])
def test_an_invalid_url(url: str) -> None:
    assert reason(url).startswith("image must be ")


def test_size_is_limited_whether_it_is_told_or_not(server: Any) -> None:
    url = server.put("x.png", b"x" * 1_001)
    assert reason(url) == "image must have at most 1,000 bytes, got more"
    assert len(request("GET", url, limits(max_bytes=1_001))) == 1_001


def test_size_is_limited_where_no_length_is_told() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + b"x" * 5_000)

    with raw_server(serve) as url:
        assert reason(url) == "image must have at most 1,000 bytes, got more"


@pytest.mark.parametrize(
    ("kind", "passes"), [("image/png", True), ("IMAGE/JPEG; q=1", True), ("text/html", False), ("", True)]
)
def test_content_types(server: Any, kind: str, passes: bool) -> None:
    url = server.put("x", b"x", kind)
    if passes:
        assert request("GET", url, limits()) == b"x"
    else:
        assert reason(url) == "image must have a content type of image/, got text/html"


def test_a_packed_body_is_refused() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"
        )

    with raw_server(serve) as url:
        assert reason(url) == "image must come as it is, as was asked, got content encoding gzip"


@pytest.mark.parametrize(
    ("fault", "expected", "transient"),
    [
        (404, "image must be answered with status 200, got 404", False),
        (500, "image must be answered with status 200, got 500", True),
        (429, "image must be answered with status 200, got 429", True),
        ("cut", "image must come whole, got a cut-off answer", True),
        ("reset", "image must come whole, got a cut-off answer", True),
        ("hang", "image must come within 0.3 s, got a timeout", True),
        ("stall", "image must come within 0.3 s, got a timeout", True),  # in the midst of the body
        ("drip", "image must come within 0.3 s, got a timeout", True),  # each read is short: only the whole is long
    ],
)
def test_faults(server: Any, fault: Any, expected: str, transient: bool) -> None:
    server.faults["/x"] = [fault]
    started = time.monotonic()
    with pytest.raises(WebError) as error:
        request("GET", f"{server.url}/x", limits(timeout_s=0.3 if fault in ("hang", "stall", "drip") else 5.0))
    assert str(error.value) == expected
    assert error.value.transient is transient
    assert time.monotonic() - started < 3


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert (
        reason(f"http://127.0.0.1:{port}/")
        == "image must come from a server that can be reached, got connection refused"
    )


@pytest.mark.parametrize(("number", "transient"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_a_host_that_nobody_knows_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, number: int, transient: bool
) -> None:
    def unresolved(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(number, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(WebError, match="must come from a server that can be reached") as error:
        request("GET", "http://shop.example/", limits())
    assert error.value.transient is transient


def test_an_https_certificate_is_checked() -> None:
    """A server without TLS is no https server, and what it says is not taken."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    with raw_server(serve) as url:
        assert reason(url.replace("http:", "https:")).startswith(
            "image must come from a server that can be reached, got "
        )


def test_retries_wait_longer_each_time_with_jitter() -> None:
    waits: list[float] = []
    stop = threading.Event()
    stop.wait = lambda seconds: waits.append(seconds) or False  # type: ignore[assignment, func-returns-value]
    config = RetryConfig(attempts=5, base_s=1.0, max_s=3.0)
    n_calls = 0

    def call() -> str:
        nonlocal n_calls
        n_calls += 1
        raise WebError("x must be y, got z", transient=True)

    with pytest.raises(WebError):
        with_retries(call, config, stop, draw=lambda: 0.5)
    # 1, 2, then 4 and 8 held to 3; a draw of a half takes off a quarter.
    assert waits == [0.75, 1.5, 2.25, 2.25]
    assert n_calls == 5


@pytest.mark.parametrize(
    ("error", "n_calls", "waits"),
    [
        (WebError("a", transient=False), 1, []),
        (WebError("a", transient=True, retry_after_s=7.0), 3, [7.0, 7.0]),
        (WebError("a", transient=True, retry_after_s=0.0), 3, [1.0, 2.0]),
        (WebError("a", transient=True, retry_after_s=500.0), 1, []),  # longer than we would wait
    ],
)
def test_retry_after_is_honoured_and_a_lasting_fault_is_not_tried_again(
    error: WebError, n_calls: int, waits: list[float]
) -> None:
    waited: list[float] = []
    calls: list[int] = []
    stop = threading.Event()
    stop.wait = lambda seconds: waited.append(seconds) or False  # type: ignore[assignment, func-returns-value]

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(WebError):
        with_retries(call, RetryConfig(attempts=3, base_s=1.0), stop, draw=lambda: 0.0)
    assert (len(calls), waited) == (n_calls, waits)


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    stop.set()
    started = time.monotonic()
    with pytest.raises(WebError):
        with_retries(
            lambda: (_ for _ in ()).throw(WebError("a", transient=True)), RetryConfig(base_s=60, max_s=60), stop
        )
    assert time.monotonic() - started < 1


def test_retry_after_as_seconds_and_as_a_date() -> None:
    assert _retry_after_s("120") == 120.0
    assert _retry_after_s(None) is None
    assert _retry_after_s("soon") is None
    due = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert _retry_after_s(due) == pytest.approx(60, abs=2)
    assert _retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


class raw_server:  # noqa: N801  used as a function
    """A server of one connection that says what it is told to."""

    def __init__(self, serve: Any) -> None:
        self._serve = serve

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/x"

    def _run(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            self._serve(connection)
            connection.settimeout(1)
            try:
                while connection.recv(1_000):
                    pass
            except OSError:
                pass

    def __exit__(self, *arguments: Any) -> None:
        self._listener.close()
        self._thread.join(2)
