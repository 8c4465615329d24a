"""What the doctor makes of its looks, without a server."""

from __future__ import annotations

from dataclasses import replace

from sick import snapshot

from semtrace.doctor import unknown_timeout


def test_a_timeout_that_is_not_known_is_said() -> None:
    server = snapshot().server
    assert list(unknown_timeout(replace(server, timeout_s=30.0))) == []
    assert list(unknown_timeout(replace(server, kind="python", timeout_s=None))) == []
    (problem,) = unknown_timeout(replace(server, timeout_s=None))
    assert "--timeout" in problem.what
    assert problem.process is None
