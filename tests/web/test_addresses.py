from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from pertinent.web import addresses
from pertinent.web.addresses import AddressError, connect, local_kind


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.0.9", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("192.168.0.1", "private"),
        ("fd00::1", "private"),
        ("169.254.169.254", "link-local"),  # where clouds keep their credentials
        ("fe80::1%eth0", "link-local"),
        ("224.0.1.1", "multicast"),
        ("ff0e::1", "multicast"),
        ("100.64.0.1", "shared"),
        ("255.255.255.255", "private"),
        ("240.0.0.1", "private"),
        ("::ffff:127.0.0.1", "IPv6-mapped"),
        ("::ffff:8.8.8.8", "IPv6-mapped"),
        ("64:ff9b::7f00:1", "loopback"),  # NAT64 of 127.0.0.1
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("64:ff9b::808:808", None),
        ("2002:7f00:1::", "tunnelled"),  # 6to4 of 127.0.0.1
        ("::7f00:1", "tunnelled"),
        ("2001:0:7f00:1::", "tunnelled"),
        ("8.8.8.8", None),
        ("2606:4700:4700::1111", None),
    ],
)
def test_local_kind(address: str, kind: str | None) -> None:
    found = local_kind(address)
    # Which of two true names an address gets (private, reserved) depends on Python's version; that it has one does not.
    assert (found is None) == (kind is None)
    if kind not in (None, "private"):
        assert found == kind


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0.0.0.0"])
def test_no_spelling_of_loopback_is_connected_to(host: str, server: Any) -> None:
    with pytest.raises(AddressError, match=r"\((loopback|unspecified)\)$"):
        connect(host, server.port, allowed=False, deadline_s=time.monotonic() + 5)
    assert server.gotten == []


def test_one_local_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(host: str, port: int, **options: Any) -> list[Any]:
        kinds = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kinds, ("93.184.216.34", port)), (*kinds, ("192.168.1.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail("connected"))
    with pytest.raises(AddressError, match=r"^shop.test at 192.168.1.1 \(private\)$"):
        connect("shop.test", 80, allowed=False, deadline_s=time.monotonic() + 5)


def test_the_connection_is_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    """A name that resolves to a public address first and to loopback afterwards (DNS rebinding) is resolved once."""
    answers = [["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]]
    connected: list[Any] = []

    def resolved(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    def refuse(self: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ConnectionRefusedError):
        connect("rebind.test", server.port, allowed=False, deadline_s=time.monotonic() + 5)
    assert connected == [("93.184.216.34", server.port)]
    assert len(answers) == 2


def test_an_allowed_host_is_connected_to(server: Any) -> None:
    connection = connect("127.0.0.1", server.port, allowed=True, deadline_s=time.monotonic() + 5)
    assert connection.getpeername() == ("127.0.0.1", server.port)
    connection.close()


def test_a_resolver_that_hangs_costs_no_more_than_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *arguments, **options: time.sleep(1) or [])
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        connect("slow.test", 80, allowed=False, deadline_s=started + 0.1)
    assert time.monotonic() - started < 0.8
