"""Admit users who know the secret part of the address and whose page came from this server. Pure.

The secret is part of the path, not a cookie: cookies know no ports, so every other site of this machine would get it.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import field
from urllib.parse import urlsplit

from semtrace.lazydata import dataclass

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Gate:
    """`names` are those under which a browser may know this server. `any_address`: it listens on all addresses, so any
    that is written in digits is one too. The owner of any other name could make it point here (DNS rebinding).
    """

    names: frozenset[str]
    any_address: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def knows(self, token: str) -> bool:
        """Return True for the right token. The time that this takes does not show how much of it was right."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def admits_host(self, host: str | None) -> bool:
        """`host` is a request's Host header. The port is left open: behind `ssh -L` it is another."""
        name = _name_of(host or "")
        return name is not None and (name in self.names or (self.any_address and _is_address(name)))

    def admits_page(self, origin: str | None, host: str | None) -> bool:
        """Return True if the page is from this server. Browsers send the true origin of a page."""
        return self.admits_host(host) and origin in (f"http://{host}", f"https://{host}")


def gate_for(host: str, names: Iterable[str] = ()) -> Gate:
    """Return the gate of a server that listens on `host`; `names` are those of this machine."""
    if is_loopback(host):
        return Gate(frozenset({*_LOOPBACK, host.lower()}))
    wildcard = _is_address(host) and ipaddress.ip_address(host).is_unspecified
    return Gate(frozenset({host.lower(), *(name.lower() for name in names), *_LOOPBACK}), any_address=wildcard)


def is_loopback(host: str) -> bool:
    """Return True if nobody on another machine can reach it."""
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def address(host: str, port: int, token: str) -> str:
    """Return the address to open in the browser."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/{token}/"


def _name_of(host: str) -> str | None:
    """Return the host without its port: `[::1]:8000` is `::1`. None if it is not a host."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises ValueError if it is not a port
        return parts.hostname if parts.netloc == host else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
