"""Which network addresses a stranger's URL may lead to: none inside our own network.

The check is on the resolved address that is then connected to, so a name that resolves anew to another address between
check and connection (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import Any

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # holds an IPv4 address in its last 32 bits, RFC 6052
# They carry an IPv4 address to wherever a gateway will, or are local by an older standard.
_TUNNELS = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10")))


class AddressError(Exception):
    """A host that is not allowed by name leads to a local address. The message is "HOST at ADDRESS (KIND)"."""


def local_kind(address: str) -> str | None:
    """Why an IP address is no public one: "loopback", "private", ...; None for a public address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return "IPv6-mapped"
        if ip in _NAT64:
            return local_kind(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if not (ip.is_loopback or ip.is_unspecified) and any(ip in network for network in _TUNNELS):
            return "tunnelled"
    kinds = ("is_loopback", "is_unspecified", "is_link_local", "is_multicast", "is_private", "is_reserved")
    for kind in kinds:
        if getattr(ip, kind):
            return kind.removeprefix("is_").replace("_", "-")
    return None if ip.is_global else "shared"


def connect(host: str, port: int, *, allowed: bool, deadline_s: float) -> socket.socket:
    """A TCP connection to a host, every address of which is public unless the host is ``allowed`` by name.

    deadline_s: on the clock of time.monotonic. Raises AddressError, TimeoutError, or OSError of the last address.
    """
    addresses = _resolve(host, port, deadline_s)
    if not allowed:
        for _, _, _, _, address in addresses:
            _require_public(host, str(address[0]))
    problem: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline_s))
            connection.connect(address)
            if not allowed:
                _require_public(host, connection.getpeername()[0])
            return connection
        except OSError as error:
            connection.close()
            problem = error
        except BaseException:
            connection.close()
            raise
    raise problem


def _require_public(host: str, address: str) -> None:
    if (kind := local_kind(address)) is not None:
        raise AddressError(f"{host} at {address} ({kind})")


def _resolve(host: str, port: int, deadline_s: float) -> list[tuple[Any, ...]]:
    """getaddrinfo with a time limit; a resolver that hangs is left to its own thread."""
    found: list[list[tuple[Any, ...]]] = []
    problems: list[Exception] = []

    def look_up() -> None:
        try:
            found.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_left(deadline_s))
    if problems:
        raise problems[0]
    if not found:
        raise TimeoutError
    return found[0]


def _left(deadline_s: float) -> float:
    left = deadline_s - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
