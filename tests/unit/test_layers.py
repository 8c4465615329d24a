"""Who may import whom: the picture in ARCHITECTURE.md, enforced."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "semtrace"

# A module or package of ours, and what it may import of ours. A package stands for all that is in it. A module that is
# not in the table fails the test: decide where it belongs, and write it down here.
LAYERS = {
    "": "instrument",  # semtrace/__init__.py: what a server imports
    # pure: from values to values
    "errors": "",
    "model": "model",
    "text": "model",
    "verdict": "model",
    "primitives": "model",
    "gunicorn_options": "",
    "rules": "model text rules",
    # between a traced server and its viewers
    "wire": "model errors wire",
    "instrument": "wire errors model instrument",
    # the edge: what the kernel and the interpreter's memory show
    "linux": "model errors linux",
    "cpython": "model errors linux.memory linux.maps cpython",
    # which processes are a server
    "processes": "model linux",
    "heartbeat": "model linux",
    "roles": "model linux heartbeat processes",
    "tree": "model linux heartbeat processes roles",
    "gunicornctl": "model linux gunicorn_options",
    "gunicorn_memory": "model linux cpython gunicorn_options",
    "gunicorn": "model errors linux gunicorn_memory gunicorn_options heartbeat processes roles",
    # its locks
    "proof": "model linux",
    "watched": "model linux cpython proof verdict",
    "reading": "model verdict watched",
    "history": "model linux verdict",
    "prover": "model linux history proof verdict watched",
    "separate": "model",
    "lastpicture": "model",
    "namebook": "model linux.memory cpython watched",
    "insiders": "model cpython linux watched",
    "threadwaits": "model cpython history insiders linux watched",
    "threadlocks": "model cpython history insiders namebook threadwaits watched",
    "fleet": "model linux tree watched",
    "selfwaits": "model fleet insiders linux.sweep watched",
    "lasting": "model history prover verdict",
    "picture": "model linux cpython fleet history lasting primitives prover rules.basis selfwaits tree verdict",
    # its traced locks
    "histogram": "",
    "events": "model wire",
    "tally": "model wire histogram",
    "sequence": "",
    "nesting": "model",
    "folding": "model wire events histogram nesting sequence tally",
    "sampling": "",
    "state": "model wire events folding nesting sampling sequence tally",
    "tracedirs": "model wire linux",
    "statefiles": "model wire linux state tracedirs",
    "reader": "model errors wire linux events tracedirs",
    "follower": "model events reader state statefiles tracedirs",
    "traced": "model wire events folding state tally",
    # all of it
    "observe": "model linux cpython fleet follower gunicorn_memory history lasting lastpicture namebook picture "
    "primitives prover reading rules separate threadlocks traced tree verdict watched",
    "stacks": "model linux rules.wording",
    "leaks": "model leftovers linux.users text",
    "doctor": "model follower leaks observe rules stacks text",
    # what people and programs get to see
    "doctor_report": "model report schema text",
    "schema": "model text",
    "stack_report": "model rules.wording text",
    "report": "model separate stack_report text",
    "ps": "model gunicorn gunicornctl processes text tree",
    "tailing": "model errors events follower observe reader schema state text traced",
    "runlogs": "model linux",
    "launch": "model errors gunicorn gunicorn_options instrument processes runlogs",
    # what acts, when told to
    "deadbooks": "model wire linux tracedirs",
    "repair": "model errors deadbooks linux observe signals text",
    "leftovers": "model linux",
    "repair_report": "model deadbooks leftovers repair text",
    "audit": "model errors linux processes repair text",
    "mend": "model errors audit leftovers linux.users observe repair repair_report signals",
    "settings": "errors",
    "spans": "model",
    "timeline": "model spans",
    "bitrows": "model spans",
    "raster": "model bitrows spans timeline",
    "waitgraph": "model",
    "tui": "model errors raster schema separate settings spans stack_report text timeline tui waitgraph",
    "web": "errors text web",
    "arguments": "",
    "printing": "errors text",
    "signals": "",
    "showing": "model errors follower gunicorn launch linux mend observe printing settings signals stacks tui",
    "serving": "errors gunicorn printing showing web",
    "cli": "arguments model doctor doctor_report errors linux.rights rules stacks gunicorn launch mend observe "
    "printing ps report schema serving showing signals tailing",
    "__main__": "cli",
}

# Who may import what is neither ours nor in the standard library.
OUTSIDERS = {"processes": "psutil", "settings": "tomli", "tui": "textual rich", "web": "aiohttp textual_serve"}

MODULES = {path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."): path for path in SOURCE.rglob("*.py")}


def layer_of(module: str) -> str | None:
    """The longest entry of the table that covers the module: `linux` for `linux.maps`."""
    candidates = [name for name in LAYERS if covers(name, module)]
    return max(candidates, key=len, default=None)


def covers(entry: str, module: str) -> bool:
    return module == entry or (entry != "" and module.startswith(entry + "."))


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, at its top or inside a function, with its full name."""
    for node in ast.walk(ast.parse(path.read_text())):
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


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_only_what_its_layer_may(module: str) -> None:
    layer = layer_of(module.removesuffix("__init__").removesuffix("."))
    assert layer is not None, f"{module} is in no layer: add it to the table"
    for imported in imports(MODULES[module]):
        mine = ours(imported)
        if mine == "":
            continue  # semtrace itself: its version
        if mine is not None:
            assert any(covers(entry, mine) for entry in LAYERS[layer].split()), f"{module} may not import {imported}"
        else:
            outsider = imported.split(".")[0]
            allowed = outsider in sys.stdlib_module_names or outsider in OUTSIDERS.get(layer, "").split()
            assert allowed, f"{module} may not import {imported}"


def test_the_table_has_no_entry_without_a_module() -> None:
    names = {module.removesuffix("__init__").removesuffix(".") for module in MODULES}
    assert set(LAYERS) <= names, "these are gone"


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter loads for the statement."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_semtrace_loads_the_standard_library_only() -> None:
    assert loaded_by("import semtrace") - sys.stdlib_module_names == {"semtrace"}


def test_the_command_line_does_not_load_the_live_view() -> None:
    assert not loaded_by("import semtrace.cli") & {"textual", "rich", "asyncio", "psutil"}
