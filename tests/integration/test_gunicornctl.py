"""The control socket's other side may be anything: what it says is taken within bounds, or not at all."""

import contextlib
import json
import os
import socket
import struct
import threading
import time

import pytest

from semtrace.servers.gunicornctl import Config, ask, parse_config


def framed(data: object) -> bytes:
    payload = json.dumps(data).encode()
    return struct.pack(">I", len(payload)) + payload


STATS = framed({"id": 1, "status": "ok", "data": {"pid": os.getpid()}})
CONFIG = framed({"id": 1, "data": {"timeout": 9, "worker_class": "<class 'gunicorn.workers.sync.SyncWorker'>"}})


@contextlib.contextmanager
def speaking(path, *pieces: bytes, close: bool = True):
    """A server that accepts once, says these bytes whatever it is asked, and then closes or stays silent."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
                if not close:
                    done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(path)
        finally:
            done.set()
            thread.join()


def test_a_sound_answer(tmp_path):
    with speaking(tmp_path / "s", STATS, CONFIG, close=False) as path:
        assert ask(os.getpid(), path, timeout_s=10) == Config("sync", 9.0)


def test_the_listener_must_be_the_master(tmp_path):
    with speaking(tmp_path / "s", STATS, CONFIG, close=False) as path:
        assert ask(os.getppid(), path) is None


def test_the_answer_must_be_the_master_s(tmp_path):
    with speaking(tmp_path / "s", framed({"data": {"pid": 1}}), CONFIG, close=False) as path:
        assert ask(os.getpid(), path) is None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">I", 0xFFFFFFFF) + b"x" * 4096,
        struct.pack(">I", 5) + b"\xff\xfe{}}",
        struct.pack(">I", 100_000) + b"[" * 100_000,
        framed([]),
        framed({"data": None}),
        framed({"status": "error", "error": "no"}),
        STATS + framed({"data": 7}),
    ],
    ids=range(10),  # its own bytes hold a pid, and xdist's workers must agree on the names
)
def test_garbage_is_no_answer(tmp_path, said):
    with speaking(tmp_path / "s", said) as path:
        assert ask(os.getpid(), path) is None


def test_a_silent_server_costs_no_more_than_the_timeout(tmp_path):
    with speaking(tmp_path / "s", STATS[:10], close=False) as path:
        began = time.monotonic()
        assert ask(os.getpid(), path, timeout_s=0.1) is None
        assert time.monotonic() - began < 5


def test_nobody_there(tmp_path):
    assert ask(os.getpid(), str(tmp_path / "none")) is None
    assert ask(os.getpid(), "/" + "x" * 300) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, Config()),
        ({"timeout": True, "worker_class": 5}, Config()),
        ({"timeout": -1, "worker_class": "x\x1b[31m"}, Config()),
        ({"timeout": float("nan"), "worker_class": "gevent"}, Config("gevent", None)),
        ({"timeout": 0, "worker_class": "<class 'my.own.Worker'>"}, Config("my.own.Worker", 0.0)),
    ],
)
def test_only_the_expected_form_is_taken(data, expected):
    assert parse_config(data) == expected
