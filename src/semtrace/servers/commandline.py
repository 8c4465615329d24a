"""Scripts, modules and options, read from the command line of a Python process. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from semtrace.lazydata import dataclass

_INTERPRETER = re.compile(r"(python|pypy)[\d.]*[a-z]*(-\w+)?\Z")

# MODULE:CALLABLE, as all servers of the web take their application.
_APPLICATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(.*\))?\Z")


@dataclass(frozen=True)
class Invocation:
    """The script or module that is run, by its name without directories, and its arguments."""

    name: str
    module: bool
    arguments: tuple[str, ...]


def invocation(command: Sequence[str]) -> Invocation | None:
    """Return what a command line runs: a script, itself or after an interpreter with its options, or `-m MODULE`.

    None where nothing is known of it. A shell, an editor or a pager that mentions a script is what is run itself.
    """
    if not command:
        return None
    if not _INTERPRETER.match(name_of(command[0])):
        return Invocation(name_of(command[0]), False, tuple(command[1:]))
    rest = _after_interpreter_options(command)
    if rest[:1] == ("-m",):
        return Invocation(rest[1], True, rest[2:]) if rest[1:] else None
    if not rest:
        return None
    # `python -m NAME` becomes `python /…/NAME/__main__.py` when it starts itself again.
    path = rest[0].removesuffix("/__main__.py")
    return Invocation(name_of(path), path != rest[0], rest[1:])


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def readable(command: Sequence[str]) -> str:
    """Return a command line for people, without directories of programs, and without the interpreter of a script."""
    words = list(command)
    if len(words) > 1 and not words[1].startswith("-") and "python" in words[0]:
        del words[0]
    return " ".join([name_of(words[0]), *words[1:]]) if words else ""


def is_application(word: str) -> bool:
    return bool(_APPLICATION.match(word))


def application_in(arguments: Sequence[str]) -> str | None:
    """Return MODULE:CALLABLE, None if it may be the value of an option."""
    found = [index for index, word in enumerate(arguments) if is_application(word)]
    free = [index for index in found if not (index and arguments[index - 1].startswith("-"))]
    if free:
        return arguments[free[0]]
    return arguments[found[0]] if len(found) == 1 else None


def option(arguments: Sequence[str], *names: str) -> str | None:
    """Return the value of an option, as `-w 2`, `-w2`, `--workers 2` or `--workers=2`; None if it is not there."""
    for index, word in enumerate(arguments):
        if word in names:
            return arguments[index + 1] if index + 1 < len(arguments) else None
        for name in names:
            if name.startswith("--") and word.startswith(f"{name}="):
                return word[len(name) + 1 :]
            if not name.startswith("--") and word.startswith(name) and not word.startswith("--"):
                return word[len(name) :]
    return None


def number(arguments: Sequence[str], *names: str) -> int | None:
    """Return an option's value if it is a plain number."""
    value = option(arguments, *names)
    return int(value) if value is not None and value.isdecimal() and len(value) < 6 else None


def first_word(arguments: Sequence[str], valued: Collection[str] = ()) -> str | None:
    """Return the first word that is neither an option nor the value of an option in `valued`."""
    skip = False
    for word in arguments:
        if not skip and not word.startswith("-"):
            return word
        skip = not skip and word in valued
    return None


def _after_interpreter_options(command: Sequence[str]) -> tuple[str, ...]:
    """The command line from `-m` or the script on. `-X` and `-W` may take the next word, `-c` ends the search."""
    i = 1
    while i < len(command) and command[i].startswith("-") and command[i] != "-":
        word = command[i]
        if word == "-m":
            break
        if word.startswith("-") and not word.startswith("--") and word.endswith("m") and word[1:-1].isalpha():
            return ("-m", *command[i + 1 :])  # joined: `-Im`
        if word == "-c":
            return ()
        i += 2 if word in ("-X", "-W", "--check-hash-based-pycs") else 1
    return tuple(command[i:])
