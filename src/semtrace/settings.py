"""Settings of the user in `$XDG_CONFIG_HOME/semtrace/config.toml`: the pace, the appearance, the keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from semtrace.errors import UsageError
from semtrace.lazydata import dataclass
from semtrace.linux import safefile

LEAST_INTERVAL_S = 0.05
MOST_INTERVAL_S = 3600.0
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Settings:
    """`interval` is in seconds between two pictures. `ascii` draws with ASCII alone. `signals` shows the semaphores
    inside Conditions and Queues from the start. `remember` keeps the order of the columns for the next time. `folder`
    is where `S` and `C` put their files. `ignore` are names of locks that each worker may have for itself. `keys` maps
    commands to Textual's names of keys, separated by commas.
    """

    interval: float = 0.2
    ascii: bool = False
    signals: bool = False
    remember: bool = True
    folder: str = "~/semtrace"
    ignore: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def saves_in(self) -> Path:
        """Return where `S` and `C` put their files: never silently the working directory."""
        try:
            return Path(self.folder).expanduser().absolute()
        except RuntimeError:  # a user without a home
            return Path("/semtrace")


def config_path() -> Path:
    return _base("XDG_CONFIG_HOME", ".config") / "semtrace" / "config.toml"


def state_path() -> Path:
    """Return the state file, by https://specifications.freedesktop.org/basedir-spec, XDG_STATE_HOME."""
    return _base("XDG_STATE_HOME", ".local/state") / "semtrace" / "view.json"


def load(given: Path | None = None) -> Settings:
    """Return the user's settings, the defaults without a file. Raises UsageError on what it cannot understand."""
    table = _table(given)
    return Settings() if table is None else from_table(table, str(given or config_path()))


def _table(given: Path | None) -> dict[str, Any] | None:
    """Return the parsed file, None without one."""
    path = given or config_path()
    try:
        text = safefile.read(path, MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if given is None and not _can_enter(path.parent):
            return None
        raise UsageError(f"cannot read {path}: {error.strerror}", "make it readable, or move it away") from error
    if len(text) > MOST_BYTES:
        raise UsageError(f"{path} is larger than a megabyte", "is it the right file?")
    return _parsed(text, path)


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # here, for most users have no file
    else:
        import tomli as tomllib

    try:
        table: dict[str, Any] = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", "fix that line, or move the file away") from error
    return table


def as_json() -> dict[str, Any]:
    """Return each setting in force, and whether it comes from the file or is the default."""
    table, settings = _table(None), load()
    return {
        "file": str(config_path()),
        "exists": table is not None,
        "settings": {
            each.name: {
                "value": getattr(settings, each.name),
                "from": "file" if each.name in (table or {}) else "default",
            }
            for each in fields(settings)
        },
    }


def as_toml() -> Iterator[str]:
    """Yield the settings as TOML; one that the file does not set is a comment, with its default."""
    found = as_json()
    yield f"# {found['file']}{'' if found['exists'] else ': there is no such file, so all are the defaults'}"
    yield "# Options of the command line come before these."
    yield ""
    for name, each in found["settings"].items():
        if name != "keys":
            yield f"{'' if each['from'] == 'file' else '# '}{name} = {_toml(each['value'])}"
    yield ""
    yield "[keys]  # commands and their keys, where they are not the usual ones"
    for command, keys in found["settings"]["keys"]["value"].items():
        yield f"{command} = {_toml(keys.split(','))}"


def _toml(value: object) -> str:
    """JSON writes numbers, texts, lists of texts and truth as TOML has them (toml.io 1.0.0: basic strings)."""
    import json

    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _can_enter(folder: Path) -> bool:
    """Return False for a folder in another user's home: after `sudo -u` or `setpriv`, $HOME may still name that."""
    try:
        folder.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return os.access(folder, os.X_OK, effective_ids=True)


def from_table(table: Mapping[str, object], where: str) -> Settings:
    """Raises UsageError, with what would be right, on unknown names and wrong kinds."""
    usual = Settings()
    known = {each.name: type(getattr(usual, each.name)) for each in fields(usual)}
    given: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise UsageError(f"{where}: there is no setting {name!r}", f"there are: {', '.join(known)}")
        given[name] = _value(name, value, known[name], where)
    return Settings(**given)


def check_interval(seconds: float, where: str) -> float:
    if not LEAST_INTERVAL_S <= seconds <= MOST_INTERVAL_S:
        raise UsageError(
            f"{where}: interval must be {LEAST_INTERVAL_S:g} to {MOST_INTERVAL_S:g} seconds, not {seconds:g}"
        )
    return seconds


def _value(name: str, value: object, kind: type, where: str) -> object:
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return check_interval(float(value), where)
    if kind is dict and isinstance(value, dict):
        return {command: _keys(command, keys, where) for command, keys in value.items()}
    if kind is tuple and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if name == "folder" and isinstance(value, str):
        return _folder(value, where)
    if kind not in (float, dict, tuple) and type(value) is kind:
        return value
    words = {float: "a number", bool: "true or false", str: "a text", dict: "a table [keys]", tuple: "a list of texts"}
    raise UsageError(f"{where}: {name} must be {words[kind]}, not {value!r}")


def _folder(value: str, where: str) -> str:
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise UsageError(f"{where}: folder {value!r} is in nobody's home", "write it in full") from None
    return value


def _keys(command: str, keys: object, where: str) -> str:
    """One text or a list of texts."""
    several = [keys] if isinstance(keys, str) else keys
    if not isinstance(several, list) or not several or not all(isinstance(key, str) and key for key in several):
        raise UsageError(f'{where}: keys.{command} must be a key or a list of keys, such as "x" or ["x", "f5"]')
    return ",".join(several)


def _base(variable: str, default: str) -> Path:
    """The specification wants relative paths ignored."""
    given = Path(os.environ.get(variable, ""))
    if given.is_absolute():
        return given
    try:
        return Path.home() / default
    except RuntimeError:  # a user without a name, as in a container, has no such file
        return Path("/") / default
