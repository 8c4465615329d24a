"""Records as fewer bytes: the same fields of all records next to each other, and compressed. Pure."""

from __future__ import annotations

import zlib

from semtrace.wire.event import EVENT_SIZE


def shuffled(data: bytes) -> bytes:
    """Return the first bytes of all records, then the second ones, and so on: alike, they compress well."""
    whole = len(data) - len(data) % EVENT_SIZE
    return b"".join([data[place:whole:EVENT_SIZE] for place in range(EVENT_SIZE)]) + data[whole:]


def restored(data: bytes) -> bytes:
    """Undo `shuffled`."""
    whole = len(data) - len(data) % EVENT_SIZE
    count = whole // EVENT_SIZE
    found = bytearray(data)
    for place in range(EVENT_SIZE):
        found[place:whole:EVENT_SIZE] = data[place * count : (place + 1) * count]
    return bytes(found)


def packed(data: bytes) -> bytes:
    """Return it as 2 to 10 bytes a record. Other threads run meanwhile."""
    return zlib.compress(shuffled(data), 1)


def unpacked(data: bytes) -> bytes:
    """Undo `packed`; only of what this process has packed itself."""
    return restored(zlib.decompress(data))
