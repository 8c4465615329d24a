"""What a process's command line, title and environment say about a gunicorn, and what they leave open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.servers.commandline import readable
from semtrace.servers.gunicorn_options import Settings, application_of_title, arguments, parse, settings
from semtrace.servers.kinds.gunicorn import is_named_so


@pytest.mark.parametrize(
    "command",
    [
        "/venv/bin/python /venv/bin/gunicorn -w 2 a:b",
        "/usr/bin/python3.11 -u /usr/bin/gunicorn3 -w 2 a:b",
        "python3 -X dev -W error -m gunicorn -w 2 a:b",
        "python -Im gunicorn -w 2 a:b",
        "python -m gunicorn.app.wsgiapp -w 2 a:b",
        "/usr/local/bin/pypy3.10 -m gunicorn -w 2 a:b",
        "python3.13t /x/site-packages/gunicorn/__main__.py -w 2 a:b",
        "gunicorn -w 2 a:b",
    ],
)
def test_a_gunicorn_is_recognized_by_its_command_line(command):
    assert arguments(command.split()) == ("-w", "2", "a:b")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["vim", "gunicorn.conf.py"],
        ["vim", "gunicorn"],
        ["grep", "gunicorn"],
        ["tail", "-f", "gunicorn.log"],
        ["bash", "-c", "gunicorn -w 2 a:b"],
        ["uv", "run", "gunicorn", "a:b"],
        ["env", "gunicorn", "a:b"],
        ["python", "gunicornc", "show"],
        ["/venv/bin/python", "/venv/bin/gunicornc"],
        ["python", "-m", "gunicornc"],
        ["python", "-c", "gunicorn", "gunicorn"],
        ["python", "gunicorn.conf.py"],
        ["python", "manage.py", "gunicorn"],
        ["python", "-m", "pytest", "gunicorn"],
        ["python", "-m"],
        ["python"],
    ],
)
def test_what_only_mentions_gunicorn_is_none(command):
    assert arguments(command) is None


def test_options_are_parsed_as_gunicorn_does():
    line = "-w4 --bind=1.2.3.4:80 --worker-cl gevent --preload -t 9 my.app:create('x') -n web --proxy-protocol"
    found = parse(line.split())
    assert found is not None
    assert (found.application, found.worker_class, found.timeout, found.name) == (
        "my.app:create('x')",
        "gevent",
        "9",
        "web",
    )
    assert found.certain


def test_an_unknown_option_may_own_the_word_after_it():
    found = parse(["--from-the-future", "x", "-t", "5", "a:b"])
    assert found is not None
    assert (found.application, found.certain, found.timeout) == (None, False, "5")


def test_an_ambiguous_abbreviation_is_refused():
    assert parse(["--worker", "2"]) is None
    assert settings(["--worker", "2"], {}, False) == Settings()


@pytest.mark.parametrize(
    ("line", "environ", "has_file", "expected"),
    [
        ("a:b", {}, False, Settings("a:b", "sync", 30.0)),
        ("a:b --threads 4", {}, False, Settings("a:b", "gthread", 30.0)),
        ("a:b -k gevent -t 5", {}, True, Settings("a:b", "gevent", 5.0)),
        ("a:b -t 0x10", None, None, Settings("a:b", None, 16.0)),
        # a configuration file, or one that may be there, leaves open what the command line does not say
        ("a:b", {}, True, Settings("a:b", None, None)),
        ("a:b", {}, None, Settings("a:b", None, None)),
        ("a:b", None, False, Settings("a:b", None, None)),
        ("a:b -c conf.py", {}, False, Settings("a:b", None, None)),
        ("a:b --chdir /x", {}, False, Settings("a:b", None, None)),
        ("a:b --from-the-future", {}, False, Settings(None, None, None)),
        # sync with an unknown number of threads may be gthread
        ("a:b -k sync", {}, True, Settings("a:b", None, None)),
        ("a:b -k sync --threads 1", {}, True, Settings("a:b", "sync", None)),
        # GUNICORN_CMD_ARGS: below the command line, above a file; its application is not used
        ("a:b -t 5", {"GUNICORN_CMD_ARGS": "-t 6 -k tornado"}, True, Settings("a:b", "tornado", 5.0)),
        ("", {"GUNICORN_CMD_ARGS": "x:y --threads=2"}, False, Settings(None, "gthread", 30.0)),
        ("a:b", {"GUNICORN_CMD_ARGS": "-c 'open"}, False, Settings("a:b", None, None)),
        ("a:b -t nonsense", {}, False, Settings("a:b", "sync", None)),
        ("--paste x.ini a:b", {}, False, Settings(None, None, None)),
    ],
)
def test_settings_are_stated_only_where_they_are_certain(line, environ, has_file, expected):
    assert settings(line.split(), environ, has_file) == expected


@given(st.lists(st.text(max_size=12), max_size=6), st.text(max_size=20))
def test_no_command_line_breaks_the_parser(words, variable):
    arguments(words)
    settings(words, {"GUNICORN_CMD_ARGS": variable}, False)


@pytest.mark.parametrize(
    ("title", "application"),
    [
        ("gunicorn: master [my.app:app]", "my.app:app"),
        ("gunicorn: master [my.app:create('x')]", "my.app:create('x')"),
        ("gunicorn: master [my:app.2]", "my:app"),  # after USR2
        ("gunicorn: master [web]", None),
        ("gunicorn: master [web: 2]", None),
        ("gunicorn: dirty-arbiter", None),
        ("python a:b", None),
    ],
)
def test_the_application_in_a_title(title, application):
    assert application_of_title(title) == application


def test_a_master_has_its_title_before_its_workers():
    assert is_named_so(["gunicorn: master [web]"])
    assert is_named_so(["python3", "-m", "gunicorn", "app:app"])
    assert not is_named_so(["python3", "app.py"])


def test_a_command_line_for_people():
    assert readable(("/v/bin/python", "/v/bin/gunicorn", "-w", "2")) == "gunicorn -w 2"
    assert readable(("/v/bin/python3", "-m", "gunicorn")) == "python3 -m gunicorn"
    assert readable(("/usr/bin/sleep", "5")) == "sleep 5"
    assert readable(()) == ""
