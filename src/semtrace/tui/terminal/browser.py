"""The live view at the other end of `semtrace serve`: Textual's driver for browsers, with its edges taken off."""

from __future__ import annotations

from textual.drivers.web_driver import WebDriver
from textual.events import AppFocus, Resize
from textual.geometry import Size
from textual.messages import ExitApp


class BrowserDriver(WebDriver):
    """Textual's driver for browsers with fixes. All facts here are about Textual 8.2.8, drivers/web_driver.py."""

    def start_application_mode(self) -> None:
        """Give the page the focus: else Textual waits for a click, no pane has the focus, and Enter does nothing."""
        super().start_application_mode()
        self._app.call_later(self._app.post_message, AppFocus())

    def on_meta(self, packet_type: str, payload: dict[str, object]) -> None:
        """A size that comes in the first moments loses a race against the one that Textual itself begins with."""
        match packet_type, payload:
            case "resize", {"width": int(width), "height": int(height)}:
                size = Size(width, height)
                self._app.call_later(self._app.post_message, Resize(size, size))
            case _:
                super().on_meta(packet_type, payload)

    def run_input_thread(self) -> None:
        """Exit when the server is gone: Textual stops reading then, but runs on."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(ExitApp())
