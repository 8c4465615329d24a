"""Metrics of real servers: scraped by a real Prometheus, which alerts; and what a scraper can do to them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Running, alive, start, start_gunicorn, wait_until
from support.commands import SOURCE, run
from support.exporting import (
    CONTRIB,
    Exporter,
    Monitoring,
    dashboard_queries,
    exporter,
    free_port,
    hostile_connections,
    installed,
    monitoring,
)

from semtrace.linux import files
from semtrace.metrics.fleet import Fleet
from semtrace.metrics.watch import Watch
from semtrace.model import Server
from semtrace.rules import Limits
from semtrace.servers import discovery

LOCK = 'lock="traced_app.lock"'
needs_prometheus = pytest.mark.skipif(
    not installed("prometheus", "prometheus-alertmanager"), reason="Prometheus and its Alertmanager are not installed"
)
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def server() -> Iterator[Running]:
    with start_gunicorn(
        "traced_app:application", "--workers=3", "--timeout=0", "--preload", env={"PYTHONPATH": SOURCE}
    ) as running:
        running.wait_workers(3)
        yield running


def asks(server: Running, path: str) -> threading.Thread:
    """Send a request that may never be answered."""

    def send() -> None:
        with contextlib.suppress(OSError):
            server.get(path)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@needs_prometheus
@pytest.mark.slow
def test_sick_server_raises_an_alert_until_its_lock_is_released(server: Running, tmp_path: Path) -> None:
    with exporter(server.pid, "--interval", 0.5) as exported, monitoring(tmp_path, exported.port) as prometheus:
        _wait_value(prometheus, 'semtrace_verdict{verdict="ok"}', 1)
        _wait_value(prometheus, f"semtrace_lock_acquired_total{{{LOCK}}}", 0)
        assert run("check", server.pid).returncode == 0
        server.get("/add")
        _wait_value(prometheus, f"semtrace_lock_acquired_total{{{LOCK}}}", 1)

        asks(server, "/die").join()
        waiting = [asks(server, "/add") for _ in range(2)]
        _wait_value(prometheus, 'semtrace_workers{state="stuck"}', 2)
        _wait_value(prometheus, f"semtrace_lock_orphaned{{{LOCK}}}", 1)
        _wait_value(prometheus, f"semtrace_lock_holder_deaths_total{{{LOCK}}}", 1)
        assert prometheus.value("sum(semtrace_worker_deaths_total)") == 1
        alert = wait_until(lambda: prometheus.delivered("SemtraceLockOrphaned"), what="the alert")
        assert alert["annotations"]["command"] == "ssh 127.0.0.1 sudo semtrace doctor"
        wait_until(lambda: prometheus.delivered("SemtraceWorkersStuck"), what="the second alert")
        checked = run("check", server.pid)
        assert (checked.returncode, len(checked.stdout.splitlines())) == (3, 1), checked

        released = run("release", server.pid, "traced_app.lock", "--yes")
        assert released.returncode == 0, released
        for thread in waiting:
            thread.join(60)
        _wait_value(prometheus, f"semtrace_lock_orphaned{{{LOCK}}}", 0)
        _wait_value(prometheus, 'semtrace_verdict{verdict="ok"}', 1)
        wait_until(lambda: prometheus.delivered("SemtraceLockOrphaned", "resolved"), what="its end")
        _every_query_has_an_answer(prometheus, server)

        server.popen.kill()
        assert exported.popen.wait(60) == 5, "the server that was named has ended"


def _wait_value(prometheus: Monitoring, expression: str, value: float) -> None:
    def found() -> bool:
        return prometheus.value(expression) == value

    try:
        wait_until(found, pause=0.2)
    except AssertionError:
        said = prometheus.query('{__name__=~"semtrace_.*"}')
        shown = [(each["metric"], each["value"][1]) for each in said if each["value"][1] != "0"]
        raise AssertionError(f"{expression} is not {value}; there are {shown}") from None


def _every_query_has_an_answer(prometheus: Monitoring, server: Running) -> None:
    """What is counted is a rate only after two scrapes; findings are there for moments only."""
    server.get("/add")
    open_queries = set(dashboard_queries())
    assert len(open_queries) > 20

    def answered() -> bool:
        open_queries.difference_update([each for each in open_queries if prometheus.query(each)])
        return open_queries <= {each for each in open_queries if "semtrace_findings" in each}

    wait_until(answered, what="an answer to each query of the dashboard", pause=0.5)


@pytest.mark.slow
def test_hostile_scrapers_slow_neither_sampling_nor_others() -> None:
    files.allow_many()
    with start(*SLEEPER) as (sleeper, _), exporter(sleeper.pid, "--interval", 0.2) as exported:
        wait_until(lambda: exported.value("semtrace_servers") == 1.0)
        sampled = "semtrace_last_sample_timestamp_seconds"
        hostile: list[socket.socket] = []
        took, samples = [], set()
        try:
            for _ in range(20):
                hostile += hostile_connections(exported.port, 50)
                began = time.monotonic()
                samples.add(exported.value(sampled))
                took.append(time.monotonic() - began)
                time.sleep(0.05)
            assert len(hostile) == 1000
            assert statistics.median(took) < 1.0, took
            wait_until(lambda: samples.add(exported.value(sampled)) or len(samples) > 5, what="further samples")
            assert _open_sockets(exported) < 200
        finally:
            for each in hostile:
                each.close()


def _open_sockets(exported: Exporter) -> int:
    """Return how many the listener has, which is the last process that was started."""
    family = [exported.popen.pid]
    for pid in family:
        family += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    links = [os.readlink(f"/proc/{family[-1]}/fd/{each}") for each in os.listdir(f"/proc/{family[-1]}/fd")]
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_listener_has_no_rights() -> None:
    with start(*SLEEPER) as (sleeper, _), exporter(sleeper.pid) as exported:
        family = [exported.popen.pid]
        for pid in family:
            family += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        wait_until(lambda: exported.value("semtrace_servers") == 1.0)
        status = Path(f"/proc/{family[-1]}/status").read_text()
        assert re.search(r"^Uid:\t65534\t65534\t65534\t65534$", status, re.MULTILINE)
        assert set(re.findall(r"^Cap(?:Inh|Prm|Eff|Amb):\t0*(\w)$", status, re.MULTILINE)) == {"0"}
        os.kill(family[-2], signal.SIGKILL)
        wait_until(lambda: not alive(family[-1]), what="the listener to end with the sampler")


@pytest.mark.skipif(not installed("openssl"), reason="openssl is not installed")
def test_tls_and_password_keep_strangers_out(tmp_path: Path) -> None:
    certificate, auth = tmp_path / "cert.pem", tmp_path / "auth"
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", certificate)
    subprocess.run(["openssl", *new.split(), *names], check=True, capture_output=True)
    auth.write_text("prometheus:s3cret")
    auth.chmod(0o600)
    options = ("--tls-cert", certificate, "--tls-key", tmp_path / "key.pem", "--auth-file", auth)
    with start(*SLEEPER) as (sleeper, _), exporter(sleeper.pid, *options) as exported:
        silent = [socket.create_connection(("127.0.0.1", exported.port)) for _ in range(100)]
        context = ssl.create_default_context(cafile=str(certificate))
        request = urllib.request.Request(f"https://127.0.0.1:{exported.port}/metrics")
        try:
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                urllib.request.urlopen(request, context=context, timeout=10)
            refused.value.close()
            request.full_url = request.full_url.replace("/metrics", "/-/healthy")
            request.add_header("Authorization", "Basic cHJvbWV0aGV1czpzM2NyZXQ=")
            wait_until(lambda: _is_answered(request, context), what="health")
        finally:
            for each in silent:
                each.close()


def _is_answered(request: urllib.request.Request, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(request, context=context, timeout=10):
            return True
    except urllib.error.HTTPError as error:  # 503 before the first page
        error.close()
        if error.code != 503:
            raise
        return False


def test_textfile_is_whole_and_goes_with_the_command(tmp_path: Path) -> None:
    path = tmp_path / "semtrace.prom"
    command = (sys.executable, "-m", "semtrace", "metrics", "--interval", "0.2", "--textfile", str(path))
    with start(*SLEEPER) as (sleeper, _):
        with start(*command, str(sleeper.pid), env={"PYTHONPATH": SOURCE}) as (popen, log):
            wait_until(lambda: path.exists() and "semtrace_verdict{" in path.read_text(), what=log.read_text())
            assert path.read_text().endswith("\n")
            if installed("prometheus-node-exporter"):
                _node_exporter_reads(tmp_path)
            popen.terminate()
            popen.wait(30)
        assert list(tmp_path.iterdir()) == []


def _node_exporter_reads(folder: Path) -> None:
    port = free_port()
    collectors = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={folder}")
    with start("prometheus-node-exporter", *collectors, f"--web.listen-address=127.0.0.1:{port}") as (_, log):

        def page() -> str:
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            return ""

        wait_until(lambda: "semtrace_verdict{" in page(), what=f"node_exporter to read it: {log.read_text()}")
        assert "node_textfile_scrape_error 0" in page()


def test_servers_are_found_as_they_come_and_go() -> None:
    """Of this machine's servers only that of the test: the others belong to other tests."""
    mine: list[int] = []

    def find() -> list[Server]:
        return [server for server in discovery.find_servers() if server.pid in mine]

    failed: list[str] = []
    fleet = Fleet(find, lambda server: Watch(server, 0.2, Limits(), lambda: None, failed.append))

    def labels() -> list[str]:
        fleet.scan()
        return sorted(fleet.readings())

    try:
        with start_gunicorn("hello:app", "--workers=1") as running:
            assert labels() == []
            mine.append(running.pid)
            wait_until(lambda: labels() == [f"hello:app@{running.bind}"], what="the server", pause=0.1)
            running.signal(signal.SIGTERM)
            wait_until(lambda: labels() == [], what="its series to go", pause=0.1)
    finally:
        fleet.stop()
    assert failed == []


def test_real_churn_leaves_series_and_descriptors_flat() -> None:
    with start(sys.executable, "churning.py") as (churning, _), exporter(churning.pid, "--interval", 0.1) as exported:
        deaths = 'semtrace_worker_deaths_total{cause="failed"}'
        wait_until(lambda: (exported.value(deaths) or 0) > 10, pause=0.1)
        series, descriptors = exported.get().count("\n"), _descriptors(exported)
        wait_until(lambda: (exported.value(deaths) or 0) > 50, pause=0.1)
        assert exported.get().count("\n") < series + 5, "findings come and go"
        assert _descriptors(exported) < descriptors + 30


def _descriptors(exported: Exporter) -> int:
    """Return how many the sampling process has open: it is the first that has a listener for a child, or that one."""
    pid = exported.popen.pid
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    sampler = children[0] if os.geteuid() == 0 else pid
    return len(os.listdir(f"/proc/{sampler}/fd"))


@pytest.mark.skipif(not installed("promtool"), reason="promtool is not installed")
def test_alert_rules_pass_their_unit_test() -> None:
    rules = CONTRIB / "prometheus/semtrace.rules.test.yml"
    done = subprocess.run(["promtool", "test", "rules", str(rules)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_is_what_its_program_makes() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    made = subprocess.run(
        [sys.executable, str(CONTRIB / "grafana/dashboard.py")], capture_output=True, text=True, check=True
    )
    assert made.stdout == (CONTRIB / "grafana/semtrace.json").read_text()


@pytest.mark.skipif(not installed("systemd-analyze"), reason="systemd is not installed")
def test_units_are_understood_and_hardened(tmp_path: Path) -> None:
    for name in ("semtrace-metrics.service", "semtrace-record.service"):
        unit = tmp_path / name
        unit.write_text((CONTRIB / "systemd" / name).read_text().replace("/usr/local/bin/semtrace", "/bin/true"))
        env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
        verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, env=env)
        assert (verified.returncode, verified.stderr) == (0, ""), verified
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--threshold=25", unit], capture_output=True, text=True
        )
        assert rated.returncode == 0, rated.stdout[-300:]


def test_images_and_manifests_are_valid() -> None:
    pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: pip install -e '.[contrib]'"
    )
    manifests = [str(path) for path in sorted((CONTRIB / "kubernetes").glob("*.yaml"))]
    for command in (["hadolint", str(CONTRIB / "docker/Dockerfile")], ["kubernetes-validate", *manifests]):
        path = Path(sys.executable).parent / command[0]
        done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
