"""What `semtrace ps` prints, for people and for programs."""

import json
from dataclasses import replace

from semtrace.commands.ps import Listing, document, lines
from semtrace.model import Process, ProcessId, Server

SERVER = Server(
    kind="gunicorn",
    id=ProcessId(100, 1),
    title="gunicorn: master [my.app:app]",
    started_at=1000.0,
    user="alice",
    version="27.0.1",
    application="my.app:app",
    bind=("127.0.0.1:8000", "unix:/run/web.sock"),
    worker_class="gthread",
    timeout_s=30.0,
)
MASTER = Process(ProcessId(100, 1), 1, "master", "sleeping", 41 << 20, 2, 1000.0, 0.0)
WORKER = Process(ProcessId(101, 2), 100, "worker", "running", 43 << 20, 5, 1001.0, 97.31, 0.4321)


def test_the_table():
    assert list(lines([Listing(SERVER, (MASTER, WORKER))], 1192.0)) == [
        "gunicorn 27.0.1, pid 100, user alice, up 3m12s",
        "  gunicorn: master [my.app:app]",
        "  application my.app:app, bind 127.0.0.1:8000 unix:/run/web.sock,",
        "  worker class gthread, timeout 30s, workers 1",
        "  health: not checked",
        "PID  ROLE    STATE     CPU%  MEM  THREADS    AGE  BEAT",
        "100  master  sleeping   0.0  41M        2  3m12s     -",
        "101  worker  running   97.3  43M        5  3m11s  0.4s",
    ]


def test_unknowns_are_dashes_and_server_titles_cannot_control_the_terminal():
    server = Server("gunicorn", ProcessId(100, 1), "x\x1b]0;y\x07" + "z" * 99, 1000.0, "alice")
    shown = list(lines([Listing(server, (MASTER,))], 1000.5))
    assert shown[0] == "gunicorn, pid 100, user alice, up 0.5s"
    assert shown[1] == "  x?]0;y?" + "z" * 70 + "…"
    assert shown[2] == "  application -, bind -, worker class -, timeout -, workers 0"
    assert all(len(line) <= 80 for line in shown)


def test_servers_are_separated_and_none_is_said():
    listing = Listing(SERVER, (MASTER,))
    assert list(lines([listing, listing], 1192.0)).count("") == 1
    assert list(lines([], 0.0)) == ["No pre-forked Python server is running on this machine."]


def test_the_document_is_the_contract():
    plain = replace(SERVER, version=None, application=None, bind=(), worker_class=None, timeout_s=None)
    made = json.loads(json.dumps(document([Listing(plain, (WORKER,))], 0.0)))
    assert made == {
        "schema": 1,
        "taken_at": "1970-01-01T00:00:00.000Z",
        "servers": [
            {
                "kind": "gunicorn",
                "pid": 100,
                "title": "gunicorn: master [my.app:app]",
                "version": None,
                "user": "alice",
                "application": None,
                "bind": [],
                "worker_class": None,
                "timeout_s": None,
                "started_at": "1970-01-01T00:16:40.000Z",
                "processes": [
                    {
                        "pid": 101,
                        "ppid": 100,
                        "role": "worker",
                        "state": "running",
                        "cpu_percent": 97.3,
                        "rss": 43 << 20,
                        "threads": 5,
                        "started_at": "1970-01-01T00:16:41.000Z",
                        "last_heartbeat_s": 0.432,
                        "holds": None,
                        "waits_on": None,
                    }
                ],
                "health": None,
            }
        ],
        "problems": [],
    }
