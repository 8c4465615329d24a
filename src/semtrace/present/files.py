"""A locked file in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import FileClaim, FileLockType, LockedFile

_TYPES = {
    FileLockType.FLOCK: "flock",
    FileLockType.POSIX: "POSIX lock",
    FileLockType.OFD: "OFD lock",
    FileLockType.SOFT: "lock file",
}
_MOST_RANGES = 4


def file_text(file: LockedFile) -> str:
    """Return `flock, shared`, `POSIX lock, bytes 5 to 14`, `flock, deleted file`."""
    return ", ".join(_parts(file))


def _parts(file: LockedFile) -> Iterator[str]:
    yield _TYPES[file.type]
    if not file.exclusive:
        yield "shared"
    ranges = list(dict.fromkeys(filter(None, map(_range, file.claims))))
    yield from ranges[:_MOST_RANGES]
    if len(ranges) > _MOST_RANGES:
        yield f"{len(ranges) - _MOST_RANGES} more ranges"
    if file.deleted:
        yield "deleted file"


def _range(claim: FileClaim) -> str:
    """Return nothing for the whole file."""
    if claim.end is None:
        return f"from byte {claim.start}" if claim.start else ""
    return f"bytes {claim.start} to {claim.end}"
