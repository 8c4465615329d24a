"""The message of `semtrace serve` when it is ready. Pure, but for the name of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from semtrace.web.gate import is_loopback


def names() -> tuple[str, ...]:
    """Return the names by which others may know this machine."""
    return (socket.gethostname(),)


def lines(address: str, host: str, port: int, may_release: bool) -> Iterator[str]:
    """The first line is for programs, too: the address alone."""
    yield address
    can = "watch, and release orphaned locks" if may_release else "watch; nobody can act (--allow-release lets them)"
    yield f"  Anyone who has this address can {can}. Ctrl-C ends it."
    if is_loopback(host):
        yield f"  If your browser is on another machine, there: ssh -L {port}:{host}:{port} {names()[0]}"
    else:
        yield "  It is not encrypted: anyone who can read the network traffic gets the address, too."
        yield "  Safer: without --host, and by ssh -L from the machine of the browser."
