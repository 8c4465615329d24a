"""Run by `site` at an interpreter's start when `environment()` set PYTHONPATH: installs, then runs the real one.

The interpreter may be another installation's than semtrace's: semtrace is imported from where this file lies, and its
place does not stay on `sys.path`. Nothing in here may keep an interpreter from starting.
"""

import os
import sys


def _install() -> None:
    if os.environ.get("SEMTRACE") != "1" or sys.version_info < (3, 10):
        return
    place = os.path.abspath(__file__)
    for _ in range(5):  # src/semtrace/instrument/bootstrap/path/sitecustomize.py
        place = os.path.dirname(place)
    sys.path.insert(0, place)
    try:
        from semtrace.instrument import patch, traced_primitives  # noqa: F401  # both now, while they can be found

        patch.install()
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"semtrace: locks are not traced: {type(error).__name__}: {error}\n")
    finally:
        sys.path.remove(place)


def _run_the_next() -> None:
    """The sitecustomize that this one hides, if there is one; its errors are reported by `site` as always."""
    import importlib.machinery
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_install()
_run_the_next()
