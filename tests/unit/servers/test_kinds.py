"""Which command lines are a server of which kind, and what its processes do: from recorded command lines."""

from __future__ import annotations

from signal import Signals

import pytest

from semtrace.model import ProcessId, Role
from semtrace.servers.commandline import application_in, first_word, option
from semtrace.servers.kinds import BY_NAME, may_name_one, named_by
from semtrace.servers.kinds.kind import Family, Relative

# What /proc showed of uvicorn 0.54, hypercorn 0.18, granian 2.8, celery 5.7, dramatiq 2.2, huey 3.5, rq 3.0, django-q2
# 1.11 and uWSGI 2.0.31. A title is one word, or torn at its blanks.
SERVERS = [
    ("uvicorn", "/v/bin/python3 /v/bin/uvicorn --workers 2 --port 7103 web:app"),
    ("uvicorn", "python -m uvicorn web:app --workers 2"),
    ("hypercorn", "/v/bin/python3 /v/bin/hypercorn -w 2 -b 127.0.0.1:7104 web:app"),
    ("granian", "/v/bin/python3 /v/bin/granian --interface asgi --workers 2 web:app"),
    ("granian", ["granian asgi 127.0.0.1:7105 web:app"]),
    ("celery", "/v/bin/python3 /v/bin/celery -A cel worker -B -c 2"),
    ("celery", "python3 -m celery --app=cel worker"),
    ("celery", ["[celeryd: celery@vm:MainProcess] -active- (-A cel worker -B -c 2)"]),
    ("dramatiq", "/v/bin/python3 /v/bin/dramatiq dram -p 2 -t 2"),
    ("huey", "/v/bin/python3 /v/bin/huey_consumer hue.huey -k process -w 2"),
    ("huey", "python -m huey.bin.huey_consumer hue.huey -k process"),
    ("huey", "python manage.py run_huey -k process"),
    ("rq", "/v/bin/python3 /v/bin/rq worker-pool -n 2"),
    ("rq", ["rq:worker:3abc46828c98435995039c1574ef2e1d: Listening on default"]),
    ("django-q", "python manage.py qcluster"),
    ("django-q", "qcluster MainProcess solar-cup"),
    ("uwsgi", "/v/bin/uwsgi --master -p 3 --wsgi-file web.py"),
    ("uwsgi", "uWSGI master"),
    ("gunicorn", ["gunicorn: master [web:app]"]),
]

OTHERS = [
    "vim uvicorn.py",
    "vim /v/bin/uvicorn",
    "grep celery worker",
    ["sh", "-c", "celery -A cel worker"],
    "/usr/bin/python3 /usr/bin/supervisord -n",
    "sudo celery -A cel worker",
    "python celery.py worker",
    "python uvicorn.py web:app",
    "celery -A worker beat",
    "/v/bin/python3 /v/bin/celery -A cel flower",
    "/v/bin/python3 /v/bin/rq info",
    "python manage.py runserver",
    ["granian asgi 127.0.0.1:7105 web:app worker-1"],
    ["[celeryd: celery@vm:ForkPoolWorker-2]"],
    "uWSGI worker 1",
    "tail -f uwsgi.log",
    ["python", "-c", "import celery; worker"],
    "python -m",
    "python",
    "",
]


def words(command: str | list[str]) -> list[str]:
    return command.split() if isinstance(command, str) else command


@pytest.mark.parametrize(("kind", "command"), SERVERS)
def test_command_line_of_a_server_is_recognised(kind: str, command: str | list[str]) -> None:
    found = named_by(words(command))
    assert found is not None
    assert found.name == kind
    assert kind == "gunicorn" or may_name_one("\0".join(words(command)).encode())


@pytest.mark.parametrize("command", OTHERS)
def test_command_that_only_mentions_a_server_is_none(command: str | list[str]) -> None:
    assert named_by(words(command)) is None


@pytest.mark.parametrize(
    ("kind", "command", "several"),
    [
        ("uvicorn", "uvicorn web:app", False),
        ("uvicorn", "uvicorn web:app --workers=4", True),
        ("uvicorn", "uvicorn --reload web:app", True),
        ("hypercorn", "hypercorn -w 0 web:app", False),
        ("hypercorn", "hypercorn web:app", True),
        ("celery", "celery -A cel worker -P threads", False),
        ("celery", "celery -A cel worker --pool=solo", False),
        ("celery", "celery -A cel worker", True),
        ("huey", "huey_consumer hue.huey -w 4", False),
        ("huey", "huey_consumer hue.huey -kprocess", True),
    ],
)
def test_only_some_have_worker_processes(kind: str, command: str, several: bool) -> None:
    described = BY_NAME[kind]
    assert described.several(described.arguments(command.split()) or ()) is several


@pytest.mark.parametrize(
    ("kind", "command", "application"),
    [
        ("uvicorn", "uvicorn --header Server:mine --workers 2 shop.web:app", "shop.web:app"),
        ("uvicorn", "uvicorn --header Server:mine --reload shop.web:app", None),
        ("uvicorn", "uvicorn --reload shop.web:app", "shop.web:app"),
        ("celery", "celery -A cel worker", "cel"),
        ("dramatiq", "dramatiq -p 2 jobs.broker", "jobs.broker"),
        ("huey", "huey_consumer hue.huey -k process", "hue.huey"),
        ("huey", "manage.py run_huey", None),
        ("rq", "rq worker high low", None),
        ("uwsgi", "uwsgi --master --module=shop.wsgi -p 2", "shop.wsgi"),
    ],
)
def test_application_is_named_only_where_it_is_sure(kind: str, command: str, application: str | None) -> None:
    described = BY_NAME[kind]
    assert described.application(described.arguments(command.split()) or ()) == application


def process(pid: int, title: str = "", *caught: Signals, settled: bool = True, ticks: int = 0) -> Relative:
    mask = sum(1 << (number - 1) for number in caught)
    return Relative(ProcessId(pid, ticks or pid), True, (title,), mask, settled)


def role(kind: str, root: str, each: Relative, parent: Role = "master", *others: Relative) -> Role:
    """Return the role of a child of the root, or of a process with such a parent."""
    first = Relative(ProcessId(1, 1), False, tuple(root.split()), 0)
    above = first.id if parent == "master" else ProcessId(2, 2)
    siblings = tuple(sorted((one.id for one in (each, *others)), key=lambda one: one.start_ticks))
    return BY_NAME[kind].role(each, Family(first, above, parent, siblings))


INT, TERM, WINCH = Signals.SIGINT, Signals.SIGTERM, Signals.SIGWINCH


def test_children_of_the_root_of_a_web_server_are_workers() -> None:
    for kind in ("uvicorn", "hypercorn", "granian"):
        assert role(kind, f"{kind} web:app", process(5)) == "worker"
        assert role(kind, f"{kind} web:app", process(5), "worker") == "process"


def test_celery_tells_beat_from_workers() -> None:
    with_beat = "celery -A cel worker -B"
    assert role("celery", with_beat, process(5, "[celeryd: celery@vm:ForkPoolWorker-1]")) == "worker"
    assert role("celery", with_beat, process(5, "[celery beat]")) == "beat"
    assert role("celery", with_beat, process(5, "celery worker", TERM)) == "worker"
    assert role("celery", with_beat, process(5, "celery worker", INT, TERM)) == "beat"
    assert role("celery", with_beat, process(5, "celery worker", INT, TERM, settled=False)) == "process"
    assert role("celery", "celery -A cel worker", process(5, "celery worker", INT, TERM)) == "process"


def test_dramatiq_starts_its_workers_before_other_forks() -> None:
    a, b, c = process(5), process(6), process(7)
    found = [role("dramatiq", "dramatiq dram -p 2", each, "master", *{a, b, c} - {each}) for each in (a, b, c)]
    assert found == ["worker", "worker", "process"]
    assert role("dramatiq", "dramatiq dram", a) == "process"


def test_huey_tells_the_scheduler_until_one_is_replaced() -> None:
    first, a, b = process(5, ticks=100), process(6, ticks=101), process(7, ticks=102)
    late = process(8, ticks=900)
    command = "huey_consumer hue.huey -k process -w 2"
    assert role("huey", command, first, "master", a, b) == "scheduler"
    assert role("huey", command, b, "master", first, a) == "worker"
    assert role("huey", command, first, "master", a, late) == "process"
    assert role("huey", command, first, "master", a) == "process"


def test_rq_calls_the_horse_a_worker() -> None:
    assert role("rq", "rq worker", process(5)) == "worker"
    assert role("rq", "rq worker", process(5, "", INT, TERM)) == "scheduler"
    assert role("rq", "rq worker", process(5, "", INT, TERM, settled=False)) == "process"
    assert role("rq", "rq worker-pool -n 2", process(5, "", INT, TERM)) == "supervisor"
    assert role("rq", "rq worker-pool -n 2", process(5), "supervisor") == "worker"
    assert role("rq", "rq worker", process(5), "worker") == "process"


def test_django_q_goes_by_titles() -> None:
    assert role("django-q", "manage.py qcluster", process(5)) == "supervisor"
    for title, found in (("idle", "worker"), ("processing x", "worker"), ("monitor", "monitor"), ("pusher", "pusher")):
        assert role("django-q", "manage.py qcluster", process(5, f"qcluster P-1 {title}"), "supervisor") == found
    assert role("django-q", "manage.py qcluster", process(5, "python manage.py qcluster"), "supervisor") == "process"


def test_uwsgi_tells_workers_by_a_handler_or_title() -> None:
    assert role("uwsgi", "uwsgi --master", process(5, "uwsgi --master", WINCH)) == "worker"
    assert role("uwsgi", "uwsgi --master", process(5, "uwsgi --master")) == "process"
    assert role("uwsgi", "uwsgi --master", process(5, "uWSGI mule 1")) == "mule"
    assert role("uwsgi", "uwsgi --master", process(5, "uWSGI http 1")) == "router"
    assert not BY_NAME["uwsgi"].master(process(1))
    assert BY_NAME["uwsgi"].master(process(1, "", Signals.SIGTSTP))


def test_options_are_read_in_all_their_spellings() -> None:
    for spelled in (["-w", "2"], ["-w2"], ["--workers", "2"], ["--workers=2"]):
        assert option(["x", *spelled], "-w", "--workers") == "2"
    assert option(["--workers"], "--workers") is None
    assert first_word(["-A", "cel", "--quiet", "worker"], ("-A",)) == "worker"
    assert application_in(["127.0.0.1:80", "::1", "unix:/x"]) is None
