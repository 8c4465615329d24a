"""semtrace: which worker holds which lock, seen from outside, and by the traced locks from inside.

In a server, `import semtrace; semtrace.install()` traces every multiprocessing lock made afterwards. With gunicorn this
belongs into gunicorn.conf.py, which the master runs before it loads the application and forks.
`semtrace.Lock("orders")` is a multiprocessing lock that is traced and has a name. Importing this loads nothing else.
"""

from __future__ import annotations

__version__ = "0.1.0"
TYPE_CHECKING = False  # typing's own would cost more than everything else here

if TYPE_CHECKING:
    from semtrace.instrument.patch import install as install
    from semtrace.instrument.patch import is_installed as is_installed
    from semtrace.instrument.patch import uninstall as uninstall
    from semtrace.instrument.traced_primitives import Barrier as Barrier
    from semtrace.instrument.traced_primitives import BoundedSemaphore as BoundedSemaphore
    from semtrace.instrument.traced_primitives import Condition as Condition
    from semtrace.instrument.traced_primitives import Event as Event
    from semtrace.instrument.traced_primitives import Lock as Lock
    from semtrace.instrument.traced_primitives import RLock as RLock
    from semtrace.instrument.traced_primitives import Semaphore as Semaphore

_SWITCHES = ("install", "is_installed", "uninstall")
_PRIMITIVES = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore")


def __getattr__(name: str) -> object:
    """The traced locks are loaded when they are first asked for."""
    if name in _SWITCHES:
        from semtrace.instrument import patch

        return getattr(patch, name)
    if name in _PRIMITIVES:
        from semtrace.instrument import traced_primitives

        return getattr(traced_primitives, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SWITCHES, *_PRIMITIVES])
