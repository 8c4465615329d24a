"""Tracing without a line of code: an environment whose Python processes install the traced locks when they start.

`semtrace run` and `environment()` work through `sitecustomize`, by a directory put first on PYTHONPATH, and only where
SEMTRACE=1: semtrace need not be installed where the server is. Where it is, from a wheel, SEMTRACE=1 alone is enough,
by `semtrace.pth`. For an environment file or a shell: `env $(python -m semtrace.instrument.bootstrap) gunicorn …`.
Interpreters started with -I, -E or -S ignore it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from semtrace.wire.place import SERVER_VARIABLE

SWITCH = "SEMTRACE"
DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "path")  # alone: no name in it hides another


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """A copy of `base` in which Python processes trace their locks, as a server of their own."""
    traced = dict(base)
    others = [entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != DIRECTORY]
    traced["PYTHONPATH"] = os.pathsep.join([DIRECTORY, *others])
    traced[SWITCH] = "1"
    traced.pop(SERVER_VARIABLE, None)
    return traced
