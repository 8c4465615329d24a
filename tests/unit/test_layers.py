"""Who may import whom: the picture in ARCHITECTURE.md, enforced."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "semtrace"

# A module or package of ours, and what it may import of ours. A package stands for all that is in it, unless it has a
# table of its own: there `.name` is its neighbour. A module that is not in the table fails the test: decide where it
# belongs, and write it down here.
LAYERS: dict[str, str | dict[str, str]] = {
    "": "instrument",  # semtrace/__init__.py: what a server imports
    # pure: from values to values
    "lazydata": "",
    "allowance": "",
    "errors": "",
    "model": "model",
    "text": "model",
    "waits": "model waits",
    "rules": "model rules waits",
    "present": "model text present rules.headline waits",
    # between a traced server and its viewers
    "wire": "model errors wire",
    "instrument": "wire errors model instrument",
    # the edge: what the kernel and the interpreter's memory show
    "linux": "model errors allowance linux",
    "cpython": "model errors allowance linux.memory linux.maps linux.machine cpython",
    # which processes are a server
    "servers": {
        "commandline": "",
        "gunicorn_options": ".commandline",
        "processes": "model linux",
        "lineage": "linux .processes",
        "addresses": "linux",
        "installed": "linux .processes",
        "sharing": "model linux .lineage .processes",
        "heartbeat": "model linux",
        "gunicorn_roles": "model linux .heartbeat .processes",
        "gunicornctl": "model linux .gunicorn_options",
        "gunicorn_memory": "model linux cpython .gunicorn_options",
        # one file for each kind of server
        "kinds": "model linux .addresses .commandline .gunicorn_memory .gunicorn_options .gunicorn_roles .heartbeat "
        ".installed .kinds .lineage .processes",
        "roles": "model linux .gunicorn_roles .kinds .processes",
        "tree": "model linux .heartbeat .processes .roles",
        "description": "model linux .addresses .commandline .installed .kinds .processes",
        "discovery": "model errors linux .description .kinds .lineage .processes .sharing",
    },
    # its locks
    "observe": {
        "verdict": "model",
        "primitives": "model",
        "proof": "model linux",
        "baselines": "model .activity .verdict",
        "activity": "linux",
        "foreign": "model linux cpython",
        "sightings": "linux cpython .proof",
        "owned": "model cpython",
        "pagesearch": "linux",
        "watched": "model linux cpython .activity .foreign .owned .pagesearch .proof .sightings .verdict",
        "reading": "model .verdict .watched",
        "heirs": "model .activity .baselines .reading .verdict .watched",
        "history": "model linux",
        "outside": "model linux.sweep .watched",
        "prover": "model linux .baselines .foreign .outside .proof .verdict .watched",
        "ownership": "model cpython .primitives .watched",
        "separate": "model",
        "lastpicture": "model",
        "deaths": "model linux.pidfd",
        "namebook": "model linux cpython .watched",
        "insiders": "model cpython linux .watched",
        "sleepers": "model linux .history",
        "threadwaits": "model cpython linux .history .insiders .sleepers .watched",
        "taskwaits": "model cpython linux .history .sleepers .watched",
        "threadlocks": "model cpython .history .insiders .namebook .taskwaits .threadwaits .watched",
        "fleet": "model linux allowance servers.tree .watched",
        "selfwaits": "model .fleet .insiders .watched",
        "asleep": "model cpython linux .sleepers .watched",
        "descriptors": "model linux",
        "softlocks": "model linux",
        "filenames": "model cpython linux .history .watched",
        "pollers": "model cpython linux .filenames .history .watched",
        "filewaits": "model linux .pollers .softlocks",
        "filerows": "model linux .filenames .filewaits .history .sleepers .watched",
        "filelocks": "model cpython.names linux .descriptors .filenames .filerows .filewaits .pollers .softlocks "
        ".watched",
        "waitfor": "model cpython linux .asleep .filewaits",
        "programs": "model linux .asleep .sleepers .waitfor",
        "managed": "model cpython linux .asleep .waitfor",
        "eventloops": "model cpython linux .watched",
        "blocks": "model cpython.layout linux .asleep .eventloops .filewaits .managed .programs .waitfor .watched",
        "outsiders": "model .outside .watched",
        "parentcopies": "model cpython .watched",
        "knots": "model linux.blocked waits .blocks .filewaits .fleet .namebook .outsiders .parentcopies .waitfor",
        "lasting": "model .baselines .history .prover .verdict",
        "picture": "model linux cpython rules.basis servers.tree .baselines .fleet .history .lasting .primitives "
        ".prover .selfwaits .sleepers .verdict",
        "marks": "linux .fleet .reading",
        "observer": "model allowance linux cpython tracing.follower servers.gunicorn_memory rules tracing.speakers "
        "tracing.traced servers.tree .activity .baselines .deaths .filelocks .fleet .heirs .knots .lasting "
        ".lastpicture .marks .namebook .ownership .picture .primitives .prover .reading .separate .threadlocks "
        ".verdict .watched",
    },
    # its traced locks
    "tracing": {
        "histogram": "",
        "events": "model wire",
        "tally": "model wire .histogram",
        "sequence": "",
        "nesting": "model",
        "folding": "model wire .events .histogram .nesting .sequence .tally",
        "sampling": "",
        "state": "model wire .events .folding .nesting .sampling .sequence .tally",
        "tracedirs": "model wire linux",
        "speakers": "model linux",
        "admission": "model .events .speakers .state",
        "statefiles": "model wire linux .speakers .state .tracedirs",
        "reader": "model errors wire linux .events .tracedirs",
        "follower": "model signals .admission .events .reader .speakers .state .statefiles .tracedirs",
        "traced": "model text wire .events .folding .state .tally",
        "packing": "wire",
        "drain": ".packing .reader",
        "losses": "model .events .sequence",
        "lines": "model wire .events .traced",
    },
    # what people and programs get to read
    "timelines": {
        "spans": "model",
        "timeline": "model waits .spans",
        "bitrows": "model .spans",
        "overview": "model",
        "raster": "model .bitrows .spans .timeline",
    },
    "reports": {
        "doctor": "model present rules.coverage rules.headline text .dump .schema",
        "csvdump": "model text",
        "schema": "model present text waits",
        "stacks": "model present text",
        "dump": "model observe.separate present rules.headline text waits .stacks",
    },
    # recordings
    "record": {
        "numbers": "",
        "moments": "",
        "codec": ".numbers",
        "schema": ".codec .numbers",
        "chunks": ".numbers",
        "groups": "model .chunks .codec .numbers .schema",
        "head": "model errors .chunks .numbers .schema",
        "sink": "errors linux.safefile .chunks",
        "reader": "errors linux.safefile .chunks .groups .head .moments .numbers",
        "replay": "model doctor errors rules text .groups .head .moments .reader",
        "overview": "model errors rules timelines.overview .groups .reader .replay",
        "recent": "model .eventlog .groups .reader .tracedevents",
        "player": "model errors present rules text timelines.overview .groups .moments .overview .reader "
        ".recent .replay",
        "eventlog": "model wire tracing.packing .chunks .numbers",
        "tracedevents": "model wire tracing.events tracing.losses tracing.traced .chunks .eventlog .head .moments "
        ".numbers .reader",
        "reading": "model errors printing rules tailing .reader .replay .tracedevents",
        "stackbook": "model",
        "collecting": "model tracing.drain tracing.follower tracing.speakers tracing.state .eventlog",
        "recorder": "model wire observe.observer present.deaths rules stacks tracing.follower .chunks .collecting "
        ".eventlog .groups .head .numbers .sink .stackbook",
        "lockorders": "model",
        "diffing": "model rules text .lockorders .replay .tracedevents",
        "asked": "",
        "child": "errors",
        "successor": "model",
        "command": "model errors servers.discovery text .asked .recorder .sink .successor",
    },
    "export": {
        "story": "model errors present.deaths present.waits record.moments record.replay record.tracedevents "
        "timelines.spans timelines.timeline",
        "owners": "model timelines.spans .story",
        "table": "text .story",
        "chrome": "timelines.spans model present text .owners .story",
        "perfetto": "model present record.numbers text timelines.spans .owners .story",
        "page": "model present reports.stacks rules.headline text timelines.spans .owners .story",
        "command": "errors linux.safefile record.moments record.replay record.sink rules text .chrome .page .perfetto "
        ".story .table",
    },
    # what acts, when told to
    "repairs": {
        "leaks": "model linux.users text .leftovers",
        "deadbooks": "model wire linux tracing.tracedirs",
        "repair": "model errors linux observe.observer signals text .deadbooks",
        "leftovers": "model linux",
        "report": "model text .deadbooks .leftovers .repair",
        "audit": "model errors linux servers.processes text .repair",
        "mend": "model errors linux.users observe.observer signals text .audit .leftovers .repair .report",
    },
    # metrics for Prometheus
    "metrics": {
        "labels": "model text",
        "grouping": "model text .labels",
        "traced": "model .grouping",
        "deaths": "model waits .grouping",
        "reading": "model rules waits .deaths .grouping .traced",
        "families": "rules.headline .grouping .reading .traced",
        "page": ".families",
        "watch": "model errors linux observe.observer rules tracing.follower .deaths .reading",
        "fleet": "model errors linux.process servers.discovery .labels .reading .watch",
        "textfile": "errors linux.safefile",
        "access": "errors linux.safefile",
        "answering": ".access",
        "listener": "errors linux.privileges linux.process .access .answering",
    },
    # the commands
    "stacks": "model linux cpython.threadids",
    "doctor": "model tracing.follower repairs.leaks observe.observer rules stacks text",
    "check": "model errors linux observe.observer present.headline rules servers.discovery text waits",
    "ps": "check model errors present reports.schema rules servers.discovery servers.gunicornctl servers.kinds "
    "servers.processes text servers.tree",
    "tailing": "model errors present.deaths wire tracing.drain tracing.events tracing.follower tracing.lines "
    "tracing.losses observe.observer reports.schema "
    "tracing.speakers "
    "tracing.state text tracing.traced",
    "runlogs": "model linux",
    "launch": "model errors servers.discovery servers.kinds instrument servers.processes runlogs",
    "settings": "errors linux.safefile",
    # the live view: a row for each folder
    "tui": {
        "text": "model errors present rules.coverage rules.headline timelines reports.schema reports.stacks "
        "observe.separate settings text waits .commands .state .terminal.ascii .text",
        "terminal": "errors linux.safefile reports.schema model text .terminal",
        "widgets": "model errors present rules.headline text timelines.overview .child .commands .remembered "
        ".state .terminal .text .widgets",
        "screens": "model errors observe.separate present reports.stacks rules settings text timelines waits tui",
        "child": "",
        "commands": ".text.line",
        "finder": ".commands",
        "keymap": "errors .commands",
        "recording": "errors model .state",
        "searching": "errors .messages .state",
        "health": "errors model rules.headline",
        "messages": "model errors rules.headline",
        "meter": "",
        "poller": "errors .messages",
        "remembered": "linux.safefile",
        "source": "model",
        "state": "model errors settings timelines.overview timelines.timeline .child .health .meter .text.entries",
        "app": "errors model settings tui",
    },
    "web": "errors text web",
    "arguments": "errors record.moments",
    "completion": "arguments errors",
    "progress": "text",
    "printing": "errors progress text",
    "signals": "",
    "showing": "check model errors record.child record.player tracing.follower servers.discovery launch linux "
    "repairs.mend observe.observer printing rules settings signals stacks tui",
    "supervising": "errors linux printing",
    "serving": "errors linux.files servers.discovery printing showing web",
    "exporting": "errors linux.files linux.heap metrics printing rules servers.discovery signals",
    "cli": "export.command record.command record.diffing record.reading record.recorder "
    "arguments check completion exporting settings model doctor reports.csvdump reports.doctor text errors "
    "linux.privileges linux.rights rules "
    "stacks servers.discovery launch repairs.mend observe.observer printing ps reports.dump reports.schema serving "
    "showing signals supervising tailing",
    "__main__": "cli",
}


def _flat(layers: dict[str, str | dict[str, str]]) -> dict[str, str]:
    flat = {}
    for name, allowed in layers.items():
        if isinstance(allowed, str):
            flat[name] = allowed
            continue
        flat[name] = ""  # the package itself, of which nothing is to be had
        for module, names in allowed.items():
            flat[f"{name}.{module}"] = " ".join(f"{name}{each}" if each[0] == "." else each for each in names.split())
    return flat


ALLOWED = _flat(LAYERS)

# Who may import what is neither ours nor in the standard library.
OUTSIDERS = {
    "servers.processes": "psutil",
    "settings": "tomli",
    "completion": "shtab",
    "tui.text": "rich",
    "tui.terminal": "textual rich",
    "tui.widgets": "textual rich",
    "tui.screens": "textual rich",
    "web": "aiohttp textual_serve",
}
OUTSIDERS |= {"metrics.families": "prometheus_client", "metrics.page": "prometheus_client"}

_TEXTUAL = ("app", "commands", "finder", "keymap", "messages", "poller", "recording", "searching")
OUTSIDERS |= {f"tui.{name}": "textual rich" for name in _TEXTUAL}

MODULES = {path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."): path for path in SOURCE.rglob("*.py")}


def layer_of(module: str) -> str | None:
    """The longest entry of the table that covers the module: `linux` for `linux.maps`."""
    candidates = [name for name in ALLOWED if covers(name, module)]
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
        if mine in ("", "lazydata"):
            continue  # semtrace itself, that is its version; and what stands for the standard library
        if mine is not None:
            assert any(covers(entry, mine) for entry in ALLOWED[layer].split()), f"{module} may not import {imported}"
        else:
            outsider = imported.split(".")[0]
            allowed = outsider in sys.stdlib_module_names or outsider in OUTSIDERS.get(layer, "").split()
            assert allowed, f"{module} may not import {imported}"


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
