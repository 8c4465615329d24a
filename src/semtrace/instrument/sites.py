"""Call sites: which line of the application called, found without reading line numbers twice.

A site is looked up by (code object, last instruction): both are at hand in a frame, a line number has to be decoded.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType

from semtrace.wire.offsets import SITE_SLOTS, encode_site, site_id

_MOST_CACHED = 4096  # code made by exec again and again must not fill the memory

# Frames of these are on the way from the application to the lock, not the application.
_DIRECTORIES = (multiprocessing.__file__, concurrent.futures.__file__, __file__)
_PACKAGES = tuple(os.path.dirname(str(file)) + os.sep for file in _DIRECTORIES)
_FILES = frozenset({str(threading.__file__), str(contextlib.__file__)})


def site_finder(sites: Sites, depth: int) -> Callable[[], int]:
    """A function that gives the site `depth` frames above its own, remembering the last one.

    It is remembered only if the application itself is the caller, not a Condition or the like between.
    """
    frame_at = sys._getframe
    site, instruction = 0, -1
    code: CodeType | None = None

    def find() -> int:
        nonlocal site, code, instruction
        frame = frame_at(depth)
        if frame.f_lasti == instruction and frame.f_code is code:
            return site
        found = sites.locate(frame)
        if not sites.is_passing(frame.f_code):
            site, code, instruction = found, frame.f_code, frame.f_lasti
        return found

    return find


class Sites:
    """All call sites that this process met. `publish` gets each new one: its index and its encoded form."""

    def __init__(self, publish: Callable[[int, bytes], None]) -> None:
        self.encoded: list[bytes] = []
        self._publish = publish
        self._known: dict[int, int] = {}  # by site id: its index
        self._cached: dict[tuple[int, int], tuple[CodeType, int]] = {}
        self._passing: dict[str, bool] = {}

    def locate(self, frame: FrameType | None) -> int:
        """Return the site of the innermost frame that is the application's, 0 without one."""
        while frame is not None and self.is_passing(frame.f_code):
            frame = frame.f_back
        if frame is None:
            return 0
        code = frame.f_code
        key = (id(code), frame.f_lasti)
        found = self._cached.get(key)
        if found is not None and found[0] is code:
            return found[1]
        return self._meet(code, key, frame.f_lineno or 0)

    def is_passing(self, code: CodeType) -> bool:
        file = code.co_filename
        passing = self._passing.get(file)
        if passing is None:
            if len(self._passing) >= _MOST_CACHED:
                self._passing.clear()
            passing = self._passing[file] = file.startswith(_PACKAGES) or file in _FILES
        return passing

    def _meet(self, code: CodeType, key: tuple[int, int], line: int) -> int:
        if len(self._cached) >= _MOST_CACHED:
            self._cached.clear()
        site = site_id(code.co_filename, line)
        if site not in self._known:
            if len(self.encoded) >= SITE_SLOTS:
                return 0
            self._known[site] = len(self.encoded)
            self.encoded.append(encode_site(code.co_filename, line))
            self._publish(self._known[site], self.encoded[-1])
        self._cached[key] = (code, site)  # holds the code, so that its id is not another's
        return site
