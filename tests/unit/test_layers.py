"""Who may import whom: the picture in ARCHITECTURE.md, enforced."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.source import parsed, statements

SOURCE = Path(__file__).parents[2] / "src" / "semtrace"

# A folder or module of ours, and what it may import of ours, itself included. The longest entry that covers a module
# counts. A module that no entry covers fails the test: decide where it belongs, and write it down here.
ALLOWED: dict[str, str] = {
    "": "instrument",  # semtrace/__init__.py: what a server imports
    # pure: from values to values
    "lazydata": "",
    "allowance": "",
    "errors": "",
    "model": "model",
    "text": "model",
    "waits": "model waits",
    "rules": "model rules waits",
    "present": "model present rules text waits",
    "timelines": "model timelines waits",
    # between a traced server and its viewers
    "wire": "model errors wire",
    "instrument": "wire errors model instrument",
    # the edge: what the kernel and the interpreter's memory show
    "linux": "model errors allowance linux",
    "cpython": "model errors allowance linux.memory linux.maps linux.machine cpython",
    # which processes are a server
    "servers": "model errors linux cpython servers",
    # its traced locks
    "tracing": "model errors text wire linux console.signals tracing",
    # its locks: each folder from those above it
    "observe.evidence": "model cpython linux observe.evidence",
    "observe.watch": "model allowance cpython linux servers.tree observe.evidence observe.watch",
    "observe.judge": "model linux observe.evidence observe.watch observe.judge",
    "observe.names": "model cpython linux observe.judge observe.watch observe.names",
    "observe.history": "model linux waits.workers observe.evidence observe.judge observe.history",
    "observe.private": "model cpython linux observe.history observe.names observe.watch observe.private",
    "observe.files": "model cpython linux observe.history observe.watch observe.files",
    "observe.blocked": "model cpython linux waits observe.files observe.history observe.judge observe.names "
    "observe.watch observe.blocked",
    "observe": "model allowance cpython linux rules servers tracing observe",
    # of these the pure ones
    "observe.evidence.verdict": "model",
    "observe.judge.composites": "model",
    "observe.names.separate": "model",
    "observe.history.lastpicture": "model",
    # what people and programs get to read
    "reports": "model observe.names.separate present rules text waits reports",
    # recordings: the format is pure
    "record": "model errors wire linux.safefile observe present rules text timelines tracing record",
    "record.numbers": "",
    "record.codec": "record.numbers",
    "record.schema": "record.codec record.numbers",
    "record.chunks": "record.numbers",
    "export": "model errors present record reports rules text timelines export",
    # what acts, when told to
    "repairs": "model errors wire linux console.signals observe.observer servers.processes text tracing.tracedirs "
    "repairs",
    # metrics for Prometheus
    "metrics": "model errors linux observe.observer rules servers text tracing.follower waits metrics",
    # a server that we start
    "launch": "model errors linux instrument servers launch",
    # the live view: its state and its texts know each other
    "tui.text": "model errors present rules timelines reports observe.names.separate settings text waits tui.commands "
    "tui.state tui.terminal.ascii tui.text",
    "tui.terminal": "errors linux.safefile reports.schema model text tui.terminal",
    "tui.widgets": "model errors present rules.headline text timelines tui.child tui.commands tui.remembered tui.state "
    "tui.terminal tui.text tui.widgets",
    "tui.screens": "model errors observe.names.separate present reports.stacks rules settings text timelines waits tui",
    "tui": "model errors linux.safefile rules.headline settings timelines tui",
    "web": "errors text web",
    # what all commands have, and the commands
    "console": "errors linux text console",
    "settings": "errors linux.safefile",
    "commands": "model errors console export launch linux metrics observe present record repairs reports rules servers "
    "settings text tracing tui waits web wire commands",
    "cli": "commands console errors linux.privileges linux.rights",
    "__main__": "cli",
}


# Who may import what is neither ours nor in the standard library.
OUTSIDERS = {
    "servers.processes": "psutil",
    "settings": "tomli",
    "commands.completion": "shtab",
    "tui.text": "rich",
    "tui.terminal": "textual rich",
    "tui.widgets": "textual rich",
    "tui.screens": "textual rich",
    "web": "aiohttp textual_serve",
}
OUTSIDERS |= {"metrics.families": "prometheus_client", "metrics.page": "prometheus_client"}

_TEXTUAL = ("app", "commands", "engine", "finder", "keymap", "messages", "poller", "recording", "searching")
OUTSIDERS |= {f"tui.{name}": "textual rich" for name in _TEXTUAL}

MODULES = {path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."): path for path in SOURCE.rglob("*.py")}


def layer_of(module: str, table: Mapping[str, str] = ALLOWED) -> str | None:
    """The longest entry of the table that covers the module: `linux` for `linux.maps`."""
    return max((name for name in table if covers(name, module)), key=len, default=None)


def covers(entry: str, module: str) -> bool:
    return module == entry or (entry != "" and module.startswith(entry + "."))


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, at its top or inside a function, with its full name."""
    for node in statements(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            yield from (submodule(str(node.module), alias.name) for alias in node.names)


def submodule(package: str, name: str) -> str:
    """What `from package import name` imports: a module of ours if there is one of that name, else the package."""
    full = f"{package}.{name}"
    inside = full.removeprefix("semtrace.").replace(".", "/")
    return full if (SOURCE / f"{inside}.py").exists() or (SOURCE / inside).is_dir() else package


def ours(module: str) -> str | None:
    """`semtrace.linux.maps` is our `linux.maps`, `semtrace` our ``, and `json` is not ours."""
    return module.removeprefix("semtrace").removeprefix(".") if module.split(".")[0] == "semtrace" else None


def forbidden(module: str) -> Iterator[str]:
    """Yield each import that the layer of the module may not have."""
    name = module.removesuffix("__init__").removesuffix(".")
    layer, outside = layer_of(name), layer_of(name, OUTSIDERS)
    if layer is None:
        yield f"{module} is in no layer: add it to the table"
        return
    for imported in imports(MODULES[module]):
        mine = ours(imported)
        if mine in ("", "lazydata"):
            continue  # semtrace itself, that is its version; and what stands for the standard library
        if mine is not None:
            allowed = any(covers(entry, mine) for entry in ALLOWED[layer].split())
        else:
            outsider = imported.split(".")[0]
            allowed = outsider in sys.stdlib_module_names or outsider in OUTSIDERS.get(outside or "", "").split()
        if not allowed:
            yield f"{module} may not import {imported}"


def test_modules_import_only_what_their_layer_may() -> None:
    assert [each for module in sorted(MODULES) for each in forbidden(module)] == []


def test_the_table_has_no_entry_without_a_module() -> None:
    names = {module.removesuffix("__init__").removesuffix(".") for module in MODULES}
    assert set(ALLOWED) <= names, "these are gone"


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter loads for the statement."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_semtrace_loads_the_standard_library_only() -> None:
    assert loaded_by("import semtrace") - sys.stdlib_module_names == {"semtrace"}


def test_the_command_line_does_not_load_the_live_view() -> None:
    assert not loaded_by("import semtrace.cli") & {"textual", "rich", "asyncio", "psutil"}
