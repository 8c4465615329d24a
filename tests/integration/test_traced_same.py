"""multiprocessing is the reference: traced and bare primitives answer the same to the same sequence of calls.

The calls are spread over two forked processes with two threads each, one after the other: what differs between the
two kinds is then never a matter of timing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import semtrace
from semtrace.instrument import patch
from semtrace.wire.place import SERVER_VARIABLE, SHM_VARIABLE
from semtrace.wire.statefile import decode_state

Call = tuple[int, int, str, tuple[Any, ...]]  # process, thread, method, arguments

SHORT = 0.002
WAYS: list[tuple[Any, ...]] = [
    (False,),
    (True, SHORT),
    (True, 0),
    (True, -1),
    (0,),
    (1, SHORT),
    (False, None),
    (False, "x"),
    (True, "x"),
    ("",),  # an error up to Python 3.11, False from 3.12 on
    (True, SHORT, 3),
]
ACQUIRES = [("acquire", way) for way in WAYS]
SEMLOCK = [
    *ACQUIRES,
    *[("acquire", (True, SHORT))] * 6,
    *[("release", ())] * 8,
    ("__exit__", (None, None, None)),
    ("repr", ()),
]
CONDITION = [("acquire", (True, SHORT)), ("release", ()), ("wait", (SHORT,)), ("notify", ()), ("notify_all", ())]
EVENT = [("set", ()), ("clear", ()), ("is_set", ()), ("wait", (SHORT,))]
KINDS: dict[str, tuple[tuple[Any, ...], list[Any]]] = {
    "Lock": ((), SEMLOCK),
    "RLock": ((), SEMLOCK),
    "Semaphore": ((2,), [*SEMLOCK, ("get_value", ())]),
    "BoundedSemaphore": ((2,), [*SEMLOCK, ("get_value", ())]),
    "Condition": ((), CONDITION),
    "Event": ((), EVENT),
}


@pytest.fixture(scope="module", autouse=True)
def _traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(SHM_VARIABLE, str(tmp_path_factory.mktemp("shm")))
        patched.setenv(SERVER_VARIABLE, "")
        yield
        semtrace.uninstall()


class Process:
    """A forked process with two threads that does as it is told."""

    def __init__(self, target: Any) -> None:
        self.mine, theirs = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                obey(target, theirs)
            os._exit(0)
        theirs.close()

    def call(self, *what: Any) -> Any:
        self.mine.send(what)
        assert self.mine.poll(10), f"no answer to {what}"
        return self.mine.recv()

    def end(self) -> None:
        self.mine.send(None)
        self.mine.close()
        os.waitpid(self.pid, 0)


def obey(target: Any, orders: Any) -> None:
    inboxes = [queue.SimpleQueue[Any]() for _ in range(2)]
    answers = queue.SimpleQueue[Any]()

    def work(inbox: queue.SimpleQueue[Any]) -> None:
        while True:
            answers.put(outcome(target, *inbox.get()))

    for inbox in inboxes:
        threading.Thread(target=work, args=(inbox,), daemon=True).start()
    while (order := orders.recv()) is not None:
        inboxes[order[0]].put(order[1:])
        orders.send(answers.get())


def outcome(target: Any, method: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """What a call gave, as something that can be compared. An argument error's words name the function: left out."""
    try:
        value = repr(target) if method == "repr" else getattr(target, method)(*arguments)
    except TypeError:
        return "TypeError", ""
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
        return type(error).__name__, str(error)
    return "value", repr(value)


def play(target: Any, calls: Sequence[Call]) -> list[Any]:
    processes = [Process(target) for _ in range(2)]
    try:
        return [processes[process].call(thread, method, arguments) for process, thread, method, arguments in calls]
    finally:
        for process in processes:
            process.end()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_traced_and_bare_answer_the_same(kind: str, data: st.DataObject) -> None:
    arguments, methods = KINDS[kind]
    one = st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from(methods)).map(lambda c: (*c[:2], *c[2]))
    calls = data.draw(st.lists(one, min_size=3, max_size=25))
    context = multiprocessing.get_context("fork")
    bare = getattr(context, kind)(*arguments)
    traced = getattr(semtrace, kind)(*arguments, name="same", ctx=context)
    assert patch.hooks_of(bare) is None
    assert play(traced, calls) == play(bare, calls)
    session = patch.prepare()
    assert session is not None
    assert session.on


def test_nothing_of_ours_was_logged_away(tmp_path: Path) -> None:
    """The comparison above means something: the child processes' tracing was on, too."""
    lock = semtrace.Lock("same")
    child = Process(lock)
    assert child.call(0, "acquire", ()) == ("value", "True")
    states = [decode_state(path.read_bytes()) for path in Path(os.environ[SHM_VARIABLE]).rglob("*.state")]
    (mine,) = [state for state in states if state is not None and state.process.pid == child.pid]
    assert mine.active
    assert [book.count for book in mine.locks if book.name == "same"] == [1]
    child.end()
