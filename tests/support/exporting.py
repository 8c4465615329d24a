"""Helpers of the tests of metrics: `semtrace metrics`, and a Prometheus with an Alertmanager that scrape it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .commands import SOURCE
from .processes import start, wait_until

CONTRIB = Path(__file__).parents[2] / "contrib"
_ADDRESS = re.compile(r"metrics are at (https?)://(\S+):(\d+)/metrics")


@dataclass
class Exporter:
    """A running `semtrace metrics`; `pid` is that of the process that was started."""

    popen: subprocess.Popen[bytes]
    log: Path
    port: int

    def get(self, path: str = "/metrics", timeout: float = 10.0, **headers: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text: str = answer.read().decode()
        return text

    def value(self, series: str) -> float | None:
        """Return the value of `name{labels}`, of which the labels may be any part; None without such a series."""
        name, _, labels = series.rstrip("}").partition("{")
        try:
            page = self.get()
        except urllib.error.HTTPError as error:
            if error.code != 503:  # that is the answer before the first page
                raise
            error.close()
            return None
        for line in page.splitlines():
            if line.startswith((f"{name}{{", f"{name} ")) and all(each in line for each in labels.split(",") if each):
                return float(line.rsplit(" ", 1)[1])
        return None


@contextlib.contextmanager
def exporter(*arguments: object) -> Iterator[Exporter]:
    command = [sys.executable, "-m", "semtrace", "metrics", "--listen", "127.0.0.1:0", *map(str, arguments)]
    with start(*command, env={"PYTHONPATH": SOURCE}) as (popen, log):
        found = wait_until(lambda: _ADDRESS.search(log.read_text()), what=f"{command} to listen")
        yield Exporter(popen, log, int(found[3]))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@dataclass
class Monitoring:
    """A Prometheus, an Alertmanager, and what the latter has delivered."""

    port: int
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the vector or scalar; AssertionError for an expression that Prometheus does not understand."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def delivered(self, name: str, status: str = "firing") -> dict[str, Any] | None:
        """Return an alert that has come to the receiver."""
        alerts = [alert for message in self.alerts for alert in message["alerts"]]
        wanted = (each for each in alerts if each["labels"]["alertname"] == name and each["status"] == status)
        return next(wanted, None)


@contextlib.contextmanager
def monitoring(folder: Path, target: int) -> Iterator[Monitoring]:
    """Scrape that port, with the rules of contrib/ but without their patience."""
    with _receiver() as (receiver, alerts):
        alertmanager, prometheus = free_port(), free_port()
        rules = (CONTRIB / "prometheus/semtrace.rules.yml").read_text()
        (folder / "rules.yml").write_text(re.sub(r"for: \d+[sm]", "for: 1s", rules))
        (folder / "prometheus.yml").write_text(_PROMETHEUS.format(target=target, alertmanager=alertmanager))
        (folder / "alertmanager.yml").write_text(_ALERTMANAGER.format(receiver=receiver))
        with (
            start(
                "prometheus-alertmanager",
                f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/alertmanager",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
                cwd=folder,
            ),
            start(
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                cwd=folder,
            ) as (_, log),
        ):
            found = Monitoring(prometheus, alerts)
            wait_until(lambda: _answers(found), what=f"Prometheus to answer: {log.read_text()[-1500:]}", pause=0.1)
            yield found


def _answers(found: Monitoring) -> bool:
    try:
        return found.value("up") == 1.0
    except urllib.error.HTTPError as error:  # a file, from Python 3.14 on with a warning if it is not closed
        error.close()
        return False
    except OSError:
        return False


@contextlib.contextmanager
def _receiver() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    alerts: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Keep silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], alerts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def installed(*commands: str) -> bool:
    return all(shutil.which(each) for each in commands)


def dashboard_queries() -> list[str]:
    """Return each query of the dashboard, with all servers and locks chosen."""
    panels = json.loads((CONTRIB / "grafana/semtrace.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [re.sub(r"\$(instance|server|lock)", ".*", each).replace("$__rate_interval", "1m") for each in found]


def hostile_connections(port: int, count: int) -> list[socket.socket]:
    """Open so many connections that say nothing, say little, or ask and do not read."""
    said = (b"", b"GET /metrics HTTP/1.1\r\nHost:", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(64))
    found = []
    for number in range(count):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", port))
        with contextlib.suppress(OSError):
            each.send(said[number % len(said)])
        found.append(each)
    return found


_PROMETHEUS = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: semtrace
    static_configs: [{{targets: ['127.0.0.1:{target}']}}]
alerting:
  alertmanagers:
    - static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]
"""
_ALERTMANAGER = """
route: {{receiver: test, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: test
    webhook_configs: [{{url: 'http://127.0.0.1:{receiver}/', send_resolved: true}}]
"""
