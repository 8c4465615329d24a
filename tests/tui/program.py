"""The real application on a fake server: `program.py SCENE PIDFILE`. Says `ended CODE` when it has left the screen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from support import scenes

from semtrace.tui.app import run

SCENES = {
    "states": lambda tick: scenes.picture(at_s=192 + tick / 5, problems=(scenes.refused(),)),
    "crowd": lambda tick: scenes.crowd(64, tick),
}


def main(scene: str, pid_file: str) -> None:
    Path(pid_file).write_text(str(os.getpid()))
    code = run(lambda: [scenes.server()], lambda server: scenes.Ticking(SCENES[scene]))
    print(f"ended {code}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
