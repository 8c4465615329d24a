"""Definition of one kind of server: how to recognise its root, the roles of its processes, and its settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from signal import Signals

from semtrace.lazydata import dataclass
from semtrace.linux.process import Stat
from semtrace.model import ProcessId, Role, Server
from semtrace.model.server import ServerKind
from semtrace.servers.commandline import Invocation, invocation
from semtrace.servers.firstthread import Function


@dataclass(frozen=True)
class Relative:
    """Facts about one process of a server that decide its role. `caught` is the mask of the signals that it handles.

    `forked`: it runs on from a fork of its parent; else multiprocessing started it by an exec. `settled`: it is old
    enough to have its own title and handlers, which a fork begins without.
    """

    id: ProcessId
    forked: bool
    command: tuple[str, ...]
    caught: int
    settled: bool = True

    @property
    def title(self) -> str:
        return " ".join(self.command)

    def catches(self, number: Signals) -> bool:
        return bool(self.caught >> (number - 1) & 1)


@dataclass(frozen=True)
class Family:
    """Relatives of a process: the root of its server, its parent with its role, and that parent's children by age."""

    root: Relative
    parent: ProcessId
    parent_role: Role
    siblings: tuple[ProcessId, ...]

    @property
    def of_root(self) -> bool:
        return self.parent == self.root.id


@dataclass(frozen=True)
class Form:
    """One way to start a server: a script or a module, and what its arguments must be, if anything."""

    scripts: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    serves: Callable[[Sequence[str]], bool] = lambda arguments: True

    def arguments(self, found: Invocation) -> tuple[str, ...] | None:
        named = found.name in (self.modules if found.module else self.scripts)
        return found.arguments if named and self.serves(found.arguments) else None


def _child_of_root(process: Relative, family: Family) -> Role:
    return "worker" if family.of_root else "process"


@dataclass(frozen=True)
class Kind:
    """A kind of server. `title` matches the title of its root; the group `arguments` has its arguments, if it has any.
    `distribution` is its name in the package index.

    `role` returns the role of a process other than the root: "process" if nothing shows it. `several` returns False if
    with these arguments there are no workers: a process of many threads is not a pre-forked server. `alone`: its root
    has no children at times. `listens`: its addresses are worth showing.

    `master` returns True if the root only leads the workers. `program` is the name of an executable that is not Python.

    `leads` are the functions in which the first thread of its root watches the workers, also where a script calls them.
    Such a root handles TERM. A script may have started other processes too: `works` is True for its workers only.

    `read_command`, `is_root` and `describe` are for a kind that needs its own code.
    """

    name: ServerKind
    distribution: str
    forms: tuple[Form, ...]
    title: re.Pattern[str] | None = None
    role: Callable[[Relative, Family], Role] = _child_of_root
    several: Callable[[Sequence[str]], bool] = lambda arguments: True
    application: Callable[[Sequence[str]], str | None] = lambda arguments: None
    alone: bool = False
    listens: bool = False
    program: str | None = None
    leads: tuple[Function, ...] = ()
    works: Callable[[Relative], bool] = lambda process: True
    master: Callable[[Relative], bool] = lambda root: True
    read_command: Callable[[Sequence[str]], tuple[str, ...] | None] | None = None
    is_root: Callable[[Stat], bool] | None = None
    describe: Callable[[Stat], Server] | None = None

    def given(self, command: Sequence[str]) -> tuple[str, ...] | None:
        """Return the arguments if one of its scripts or modules was run; else a script may have called it."""
        found = invocation(command)
        each = (form.arguments(found) for form in self.forms) if found else ()
        return next((arguments for arguments in each if arguments is not None), None)

    def arguments(self, command: Sequence[str]) -> tuple[str, ...] | None:
        """Return the server's own arguments in a command line or in the title of a root; None for any other process."""
        if self.read_command is not None:
            return self.read_command(command)
        given = self.given(command)
        if given is not None:
            return given
        titled = self.title.match(" ".join(command)) if self.title else None
        return None if titled is None else tuple((titled.groupdict().get("arguments") or "").split())
