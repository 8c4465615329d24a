"""Run by `semtrace.pth`, which the wheel puts next to the package, at the start of an interpreter with SEMTRACE=1.

The line there costs other interpreters of the installation a look at their environment. Nothing in here may keep an
interpreter from starting.
"""

from __future__ import annotations

import sys

try:
    from semtrace.instrument import patch

    patch.install()
except Exception as error:  # noqa: BLE001
    sys.stderr.write(f"semtrace: locks are not traced: {type(error).__name__}: {error}\n")
