"""Who may look: the address is the key, and only our own page may talk to us."""

from __future__ import annotations

import pytest

from semtrace.web.gate import Gate, address, gate_for, is_loopback

LOOPBACK = gate_for("127.0.0.1", ["box"])
EVERYWHERE = gate_for("0.0.0.0", ["Box"])


def test_every_gate_has_its_own_key_hidden_from_repr() -> None:
    one, other = gate_for("127.0.0.1"), gate_for("127.0.0.1")
    assert one.token != other.token
    assert len(one.token) >= 43  # 256 bits
    assert one.token not in repr(one)


@pytest.mark.parametrize("tried", ["", "x", "ü", "\0"])
def test_only_the_whole_key_opens(tried: str) -> None:
    assert LOOPBACK.knows(LOOPBACK.token)
    assert not LOOPBACK.knows(tried)
    assert not LOOPBACK.knows(LOOPBACK.token[:-1])
    assert not LOOPBACK.knows(LOOPBACK.token + tried + "x")


@pytest.mark.parametrize(
    ("gate", "host", "admitted"),
    [
        (LOOPBACK, "127.0.0.1:8321", True),
        (LOOPBACK, "localhost:9999", True),  # ssh -L 9999:…
        (LOOPBACK, "LOCALHOST", True),
        (LOOPBACK, "[::1]:8321", True),
        (LOOPBACK, "box:8321", False),
        (LOOPBACK, "evil.example:8321", False),
        (LOOPBACK, "127.0.0.1.evil.example", False),
        (LOOPBACK, "192.0.2.7:8321", False),
        (LOOPBACK, "evil@127.0.0.1", True),  # no browser sends it, and it names this machine
        (LOOPBACK, "", False),
        (LOOPBACK, None, False),
        (LOOPBACK, "[::1", False),
        (LOOPBACK, "127.0.0.1/x", False),
        (LOOPBACK, "127.0.0.1:99999999", False),
        (EVERYWHERE, "box:8321", True),
        (EVERYWHERE, "192.0.2.7:8321", True),
        (EVERYWHERE, "[2001:db8::1]:8321", True),
        (EVERYWHERE, "evil.example:8321", False),
        (gate_for("192.0.2.7", ["box"]), "192.0.2.7:1", True),
        (gate_for("192.0.2.7", ["box"]), "192.0.2.8:1", False),
        (gate_for("box.example", ["box"]), "box.example:8321", True),
    ],
)
def test_names_that_somebody_else_may_own_are_none_of_ours(gate: Gate, host: str | None, admitted: bool) -> None:
    assert gate.admits_host(host) is admitted


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://127.0.0.1:8321", "127.0.0.1:8321", True),
        ("http://localhost:9999", "localhost:9999", True),
        ("https://localhost", "localhost", True),
        ("http://127.0.0.1:9000", "127.0.0.1:8321", False),  # another site of this machine
        ("http://localhost:8321", "127.0.0.1:8321", False),
        ("http://evil.example", "127.0.0.1:8321", False),
        ("http://evil.example:8321", "evil.example:8321", False),
        ("http://127.0.0.1:8321.evil.example", "127.0.0.1:8321", False),
        ("null", "127.0.0.1:8321", False),
        ("file://", "127.0.0.1:8321", False),
        ("", "127.0.0.1:8321", False),
        (None, "127.0.0.1:8321", False),
        (None, None, False),
    ],
)
def test_only_a_page_of_ours_may_talk(origin: str | None, host: str | None, admitted: bool) -> None:
    assert LOOPBACK.admits_page(origin, host) is admitted


def test_an_address_can_be_opened() -> None:
    assert address("127.0.0.1", 8321, "key") == "http://127.0.0.1:8321/key/"
    assert address("::1", 80, "key") == "http://[::1]:80/key/"
    assert address("0.0.0.0", 80, "key") == "http://127.0.0.1:80/key/"
    assert address("::", 80, "key") == "http://[::1]:80/key/"
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "0.0.0.0", "192.0.2.7", "box")] == [
        *(True,) * 3,
        *(False,) * 3,
    ]
