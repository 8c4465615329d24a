"""The child that a thread waits for where the kernel shows another process: one that a fork server has started."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.cpython.stack import PyFrame, Sample
from semtrace.cpython.variables import local

# Lib/multiprocessing/popen_forkserver.py Popen.poll, 3.8 to 3.15 (billiard and loky have copies): it waits for the pipe
# into which the fork server writes how the child ended. `pid` is the child's.
_FILE, _FUNCTION = "/popen_forkserver.py", "poll"
_INNER_FRAMES = 6


def awaited_child(sample: Sample, frames: Sequence[PyFrame]) -> int | None:
    """Return the PID, as the process itself numbers it; None for a thread that waits for no such child."""
    for frame in frames[:_INNER_FRAMES]:
        if frame.function == _FUNCTION and frame.file.endswith(_FILE):
            popen = local(sample, frame, "self")
            number = sample.objects.integer(sample.classes.attribute_of(popen, "pid"))
            return number if number and 0 < number < 1 << 22 else None
    return None
