"""gunicorn's command line, read as gunicorn reads it. Pure.

The options are those of gunicorn/config.py in 20.1, 21.2, 23.0, 25.0 and 27.0 together.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NoReturn

from semtrace.lazydata import dataclass
from semtrace.servers.commandline import invocation, is_application

# gunicorn/config.py, WorkerClass, Timeout and Threads: what applies where nobody says otherwise.
DEFAULT_WORKER_CLASS = "sync"
DEFAULT_TIMEOUT_S = 30.0

_FLAGS = """
--capture-output --casefold-http-method --check-config --disable-redirect-access-to-syslog --do-handshake-on-connect
--enable-backlog-metric --enable-stdio-inheritance --initgroups --log-syslog --no-control-socket --no-sendfile
--permit-obsolete-folding --permit-unconventional-http-method --permit-unconventional-http-version --preload
--print-config --reload --reuse-port --spew --strip-header-spaces --suppress-ragged-eofs --version --help
"""

_VALUES = """
--access-logfile --access-logformat --asgi-disconnect-grace-period --asgi-lifespan --asgi-loop --backlog --ca-certs
--cert-reqs --certfile --chdir --ciphers --control-socket --control-socket-mode --dirty-app --dirty-graceful-timeout
--dirty-threads --dirty-timeout --dirty-workers --dogstatsd-tags --forwarded-allow-ips --forwarder-headers
--graceful-timeout --header-map --http-parser --http-protocols --http2-cleartext --http2-initial-window-size
--http2-max-concurrent-streams --http2-max-frame-size --http2-max-header-list-size --keep-alive --keyfile
--limit-request-field_size --limit-request-fields --limit-request-line --log-config --log-config-json --log-level
--log-syslog-facility --log-syslog-prefix --log-syslog-to --logger-class --max-requests --max-requests-jitter
--paste-global --protocol --proxy-allow-from --pythonpath --reload-engine --reload-extra-file --root-path --ssl-version
--statsd-host --statsd-prefix --threads --umask --uwsgi-allow-from --websocket-max-message-size --worker-connections
--worker-tmp-dir
"""

# Short and long spellings, and the name under which the value is looked up.
_FLAG_PAIRS = [("-D", "--daemon"), ("-R", "--enable-stdio-inheritance"), ("-v", "--version"), ("-h", "--help")]
_VALUE_PAIRS = [
    ("-b", "--bind"),
    ("-c", "--config"),
    ("-e", "--env"),
    ("-g", "--group"),
    ("-k", "--worker-class"),
    ("-m", "--umask"),
    ("-n", "--name"),
    ("-p", "--pid"),
    ("-t", "--timeout"),
    ("-u", "--user"),
    ("-w", "--workers"),
]


@dataclass(frozen=True)
class Options:
    """Options on a command line, None for those that are not there. `certain` is False if it has unknown options."""

    application: str | None = None
    config: str | None = None
    worker_class: str | None = None
    threads: str | None = None
    timeout: str | None = None
    name: str | None = None
    chdir: str | None = None
    paste: str | None = None
    control_socket: str | None = None
    certain: bool = True


@dataclass(frozen=True)
class Settings:
    """Settings of a server that are certain, None for those that a configuration file may change."""

    application: str | None = None
    worker_class: str | None = None
    timeout_s: float | None = None


def arguments(command: Sequence[str]) -> tuple[str, ...] | None:
    """Return gunicorn's own arguments in a process's command line, or None if it does not start gunicorn.

    Two forms: a script called gunicorn, itself or after an interpreter with its options; `python -m gunicorn`.
    A shell, editor or pager that mentions it has another program in front.
    """
    found = invocation(command)
    named = found and (found.name in MODULES if found.module else _SCRIPT.match(found.name))
    return found.arguments if found and named else None


def parse(arguments: Sequence[str]) -> Options | None:
    """Return the options, None if gunicorn itself would have refused the arguments."""
    try:
        found, unknown = _parser().parse_known_args(list(arguments))
    except _RefusedError:
        return None
    values = vars(found)
    known = {name: values[name] for name in Options.__annotations__ if name in values}
    positional = values["args"]
    return Options(
        application=positional[0] if positional and not unknown and not values["paste"] else None,
        certain=not unknown,
        **known,
    )


def settings(arguments: Sequence[str], environ: Mapping[str, str] | None, has_config_file: bool | None) -> Settings:
    """Return the settings that the command line, `GUNICORN_CMD_ARGS` and gunicorn's defaults make certain.

    The command line wins over the variable, the variable over a configuration file, and that over the defaults
    (gunicorn/app/base.py, load_config). `has_config_file` is True if there is a `gunicorn.conf.py` in the directory
    where it was started, None if that is not known; `environ` is None if it is not known.
    """
    line = parse(arguments)
    variable = _from_environ(environ)
    if line is None:
        return Settings()
    defaults_apply = (
        line.certain
        and variable is not None
        and variable.certain
        and has_config_file is False
        and not (line.config or variable.config or line.chdir or variable.chdir or line.paste)
    )
    fallback = variable or Options()
    threads = line.threads or fallback.threads or ("1" if defaults_apply else None)
    worker_class = line.worker_class or fallback.worker_class or (DEFAULT_WORKER_CLASS if defaults_apply else None)
    timeout = line.timeout or fallback.timeout
    return Settings(
        application=line.application,
        worker_class=_effective(worker_class, threads),
        timeout_s=_seconds(timeout) if timeout else (DEFAULT_TIMEOUT_S if defaults_apply else None),
    )


def application_of_title(title: str) -> str | None:
    """`myapp:app` of `gunicorn: master [myapp:app]`, None if the name in the brackets has not the form MODULE:CALLABLE.

    gunicorn names itself after the application unless it is given a name; after USR2 it appends `.2`.
    """
    found = _TITLE.match(title)
    name = re.sub(r"\.2\Z", "", found[1]) if found else ""
    return name if is_application(name) else None


def short_class(path: str) -> str:
    """`sync` for `gunicorn.workers.sync.SyncWorker`: as it is called on the command line."""
    return _ALIASES.get(path, path)


# gunicorn/workers/__init__.py, SUPPORTED_WORKERS
_ALIASES = {
    "gunicorn.workers.sync.SyncWorker": "sync",
    "gunicorn.workers.gthread.ThreadWorker": "gthread",
    "gunicorn.workers.ggevent.GeventWorker": "gevent",
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": "gevent_pywsgi",
    "gunicorn.workers.geventlet.EventletWorker": "eventlet",
    "gunicorn.workers.gtornado.TornadoWorker": "tornado",
    "gunicorn.workers.gasgi.ASGIWorker": "asgi",
}
MODULES = frozenset({"gunicorn", "gunicorn.app.wsgiapp", "gunicorn.app.pasterapp"})
_SCRIPT = re.compile(r"gunicorn(3|_paster|-\d(\.\d+)?)?(\.py)?\Z")
_TITLE = re.compile(r"gunicorn: (?:master|worker) \[(.*)\]\s*\Z")


def _from_environ(environ: Mapping[str, str] | None) -> Options | None:
    if environ is None:
        return None
    try:
        return parse(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))
    except ValueError:  # an open quotation
        return None


def _effective(worker_class: str | None, threads: str | None) -> str | None:
    """The sync worker with several threads is the gthread worker (gunicorn/config.py, worker_class_str)."""
    if worker_class != DEFAULT_WORKER_CLASS:
        return worker_class
    if threads is None or not threads.isdecimal():
        return None
    return "gthread" if int(threads) > 1 else worker_class


def _seconds(text: str) -> float | None:
    """gunicorn accepts what int(text, 0) does (config.py, validate_pos_int)."""
    try:
        return float(int(text, 0))
    except (ValueError, OverflowError):
        return None


class _RefusedError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _RefusedError(message)


@cache
def _parser() -> _Parser:
    """argparse, as gunicorn itself uses it: abbreviations, `-w4`, `--bind=…`, options after the application."""
    parser = _Parser(add_help=False)
    paired = {long for _, long in _FLAG_PAIRS + _VALUE_PAIRS}
    for short, long in _FLAG_PAIRS:
        parser.add_argument(short, long, action="store_true")
    for short, long in _VALUE_PAIRS:
        parser.add_argument(short, long)
    for long in set(_FLAGS.split()) - paired:
        parser.add_argument(long, action="store_true")
    for long in set(_VALUES.split()) - paired:
        parser.add_argument(long)
    parser.add_argument("--paste", "--paster")
    parser.add_argument("--log-file", "--error-logfile")
    parser.add_argument("--proxy-protocol", nargs="?")  # a flag before gunicorn 24
    parser.add_argument("args", nargs="*")
    return parser
