"""What the demo adds to gunicorn: it ends when the demo ends, however that ends, and lets semtrace look.

None of this is needed to use semtrace: your own server runs as it is.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from demo_app.prctl import die_with_parent, let_family_look

RUNNER = int(os.environ["DEMO_RUNNER"])
FOLDER = Path(os.environ["DEMO_FOLDER"])


def on_starting(server: Any) -> None:
    """In the master: if the runner is killed, make the quick end that it would have asked for."""
    die_with_parent(signal.SIGQUIT)
    let_family_look(RUNNER)
    if os.getppid() != RUNNER:  # it died before we asked
        raise SystemExit(1)


def when_ready(server: Any) -> None:
    """Tell the runner which port the kernel gave us."""
    partial = FOLDER / "port.partial"
    partial.write_text(str(server.LISTENERS[0].sock.getsockname()[1]))
    partial.rename(FOLDER / "port")


def post_fork(server: Any, worker: Any) -> None:
    """In a worker. One that hangs on the lock would never notice that its master is gone: let the kernel end it."""
    die_with_parent(signal.SIGKILL)
    let_family_look(RUNNER)


def post_worker_init(worker: Any) -> None:
    """Tell the runner that this worker has the application, and so its lock, and is open for customers."""
    (FOLDER / f"worker-{worker.pid}").touch()


def on_exit(server: Any) -> None:
    """The runner tidies up; if it was killed, the master does."""
    if os.getppid() != RUNNER:
        shutil.rmtree(FOLDER, ignore_errors=True)
