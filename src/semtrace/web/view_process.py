"""One browser's live view: a process of its own, run without a shell, that ends with its page."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from aiohttp.web import WebSocketResponse
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

DRIVER = "semtrace.tui.terminal.browser:BrowserDriver"
LEAVE_S = 3.0

# Not `-m`: that would look for semtrace in the directory in which somebody happens to stand. As root, too.
_PROGRAM = "import sys; sys.path[:] = filter(None, sys.path); from semtrace.cli import main; sys.exit(main())"


def command(arguments: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, "-c", _PROGRAM, *arguments)


class Session(AppService):
    """`_open_app_process` and `_build_environment` are private to textual-serve (1.1.3, app_service.py): its own start
    the command by a shell.
    """

    def __init__(self, argv: Sequence[str], socket: WebSocketResponse) -> None:
        async def close() -> None:
            await socket.close()

        super().__init__(
            "",
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=close,
            download_manager=DownloadManager(),
        )
        self._argv = argv

    async def run(self) -> None:
        """Run until the live view ends. Then its page is closed, also after a failure."""
        await super().run()
        await self.remote_close()

    async def stop(self) -> None:
        """Ask it to leave; kill it if it does not."""
        process = self._process
        if process is None:
            return
        try:
            await asyncio.wait_for(self._leave(process), LEAVE_S)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            if process.returncode is None:
                process.kill()
        await process.wait()

    async def _leave(self, process: Process) -> None:
        await super().stop()
        await process.wait()

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        return {**super()._build_environment(width, height), "TEXTUAL_DRIVER": DRIVER}

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,  # Ctrl-C is for the server, which then asks each to leave
        )
        assert process.stdin is not None
        self._process, self._stdin = process, process.stdin
        return process
