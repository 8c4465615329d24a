"""Address of the listener and access to it: TLS, client certificates, a user with a password."""

from __future__ import annotations

import base64
import errno
import ipaddress
import os
import socket
import ssl
import stat
import time
from pathlib import Path

from semtrace.errors import SemtraceError, UsageError
from semtrace.lazydata import dataclass
from semtrace.linux import safefile

DEFAULT = "127.0.0.1:9877"
_LONGEST_SECRET = 4096
BACKLOG = 256
# A listener whose sampler was killed needs a moment to notice.
_IN_USE_S = 2.0


@dataclass(frozen=True)
class Access:
    """`tls` is None for plain HTTP; `authorization` is the header that each request must have, None for any."""

    tls: ssl.SSLContext | None = None
    authorization: bytes | None = None


def parse(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[IPV6]:PORT`; an empty host stands for all addresses."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets
    if not colon or not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise UsageError(f"invalid address {address!r}", f"use HOST:PORT, as {DEFAULT} or [::1]:9877")
    return host, int(port)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises SemtraceError."""
    deadline_s = time.monotonic() + _IN_USE_S
    while True:
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline_s:
                time.sleep(0.1)
                continue
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            what = f"cannot listen on {host or '*'}:{port}: {why}"
            raise SemtraceError(what, "give another address: --listen HOST:PORT") from error
        listening.setblocking(False)
        return listening


def tls_context(certificate: str | None, key: str | None, client_ca: str | None) -> ssl.SSLContext | None:
    """Return what TLS needs, None without a certificate. `client_ca`: clients must have a certificate of it."""
    if certificate is None:
        if key is not None or client_ca is not None:
            raise UsageError("TLS needs a certificate", "give --tls-cert FILE, too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files = certificate if key is None else f"{certificate} with {key}"
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            files = client_ca
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError is one, whose words are OpenSSL's
        why = "no such certificate or key in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise SemtraceError(f"cannot use {files}: {why}", "give PEM files that this user can read") from error
    return context


def authorization(path: str | None) -> bytes | None:
    """Return the header that a client must send, from a file with `USER:PASSWORD` that others cannot read."""
    if path is None:
        return None
    try:
        if stat.S_IMODE(Path(path).stat().st_mode) & 0o077:
            raise SemtraceError(f"others can read {path}", f"chmod 600 {path}")
        line = safefile.read(Path(path), _LONGEST_SECRET).strip()
    except OSError as error:
        raise SemtraceError(f"cannot read {path}: {error.strerror}", "give a file with USER:PASSWORD") from error
    if b":" not in line or b"\n" in line:
        raise SemtraceError(f"{path} has not one line USER:PASSWORD", "write one, and nothing else")
    return b"Basic " + base64.b64encode(line)
