"""Make docs/findings.md: `python docs/reference.py`. Severities, evidence and cures come from the code: the table
CODES, the cases of tests/support/finding_cases.py, and present/. What a code means is written here; docs/examples/ has
the examples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.finding_cases import cases  # noqa: E402

from semtrace.model import CODES, SEVERITIES, CodeInfo, Finding, FindingCode, Severity  # noqa: E402
from semtrace.present.facts import fact_lines  # noqa: E402
from semtrace.present.remedies import ADVICE  # noqa: E402
from semtrace.text import wrapped  # noqa: E402

PAGE = ROOT / "docs" / "findings.md"
EXAMPLES = ROOT / "docs" / "examples"

BEGIN = """\
<!-- Made by docs/reference.py: change that, not this. -->

# Findings

`semtrace doctor` reports findings, the worst first. Each has a title, evidence, a remedy, and its code in brackets.
The code is a contract: it does not change, and JSON has it too.

| severity | means |
|---|---|
| error | proven, and harmful now |
| warning | probable, or harmful soon |
| note | worth knowing |

`doctor` exits with 3 on errors, unless [`--fail-on`](commands.md#doctor) says otherwise. A finding that has passed
while `doctor` watched is still reported, as "over by now".

"Nothing wrong" names what was checked, and what was not. [Limits](limits.md) lists what semtrace cannot see.
"""

# What each code means: for a reader who sees it for the first time.
MEANINGS: dict[FindingCode, str] = {
    FindingCode.ORPHANED_LOCK: """\
The lock is locked, or a unit of the semaphore is lost, and no living process holds it. The process that held it
died: a semaphore does not know who took it, so the kernel gives nothing back. Every thread that asks for the lock
is stuck.

It is an error where that is proved. It is a warning where a process could not be read, and where only units are
lost.""",
    FindingCode.STUCK: """\
Threads wait, and nothing that lives can wake them. [The wait graph](wait-graph.md) explains how that is proved.

The same code is reported where all workers have waited for longer than `--long`, without proof that nothing can
wake them. Then the evidence names the doubt. It is a warning where processes of a script wait for signals: they may do
so as designed.""",
    FindingCode.DEADLOCK: """\
Threads wait for each other in a ring, or one thread waits for a lock that it holds itself. None of them can
continue.

It is a warning where another thread or process could still release one of the locks.""",
    FindingCode.STOPPED: """\
A process is stopped: by SIGSTOP, Ctrl-Z, a debugger or a frozen cgroup. Threads wait for it, or it is a worker and
serves no request. Nothing is broken: it continues when somebody continues it.""",
    FindingCode.WORKER_DIED: """\
A thread waits for the result of a job, and no worker of its pool is at work. The worker that had the job died, and
`multiprocessing.Pool` never notices that. The result never comes.

Or every worker ends as soon as it has started, as with an initializer that raises. New ones are made, and end too.""",
    FindingCode.UNSHARED_LOCK: """\
Several semaphores have one name, and each is mapped by one worker only. Each worker made the lock for itself,
usually because gunicorn runs without `--preload`. The lock protects within one worker, and not across workers.

It is an error for a lock with a name of its own in workers. Everything else is a warning: a worker may have made a
queue, an event or a lock in a list for processes that it starts itself.""",
    FindingCode.PRIVATE_LOCK: """\
Each worker has its own copy of a `threading` or `asyncio` lock, so it does not protect across workers. Such a lock
lives in the memory of one process, and a fork copies it.

A module-level `threading.Lock` alone is a note. If two workers were seen to hold their copies at once, it is an
error where each of them has one thread. It is a warning where they have several threads, and for an `asyncio.Lock`.""",
    FindingCode.INHERITED_HOLD: """\
A fork copied the lock while it was held. The child counts it as held, or has a copy that is locked, and never took
it. An RLock that has such a count is never released by that process. A private lock stays locked in the child, for
nobody there can release it.""",
    FindingCode.OVER_RELEASE: """\
A process released a lock that it did not hold. After that, two threads may be inside at once. The usual cause is an
acquire with a timeout whose result nobody checks.

It is a note where a parent may have taken the lock for its child to release.""",
    FindingCode.TIMEOUT_RISK: """\
The holder has not answered gunicorn for more than half of `--timeout`. gunicorn kills it at the end of that time, and
that may leave the lock orphaned.""",
    FindingCode.LONG_HOLD: """\
One thread has held the lock for longer than `--long`, without a break. Others may wait for it all that time.

It is reported after one second where others wait and the holder waits for its next request or job. Then the code that
took the lock has ended without releasing it.""",
    FindingCode.LONG_WAIT: """\
A thread has waited for longer than `--long`, and no other finding explains it. The holder may be unknown, or slow.

Tasks that wait for an `asyncio.Lock` are a note from one second on, and a warning from `--long` on.""",
    FindingCode.CONTENTION: """\
The lock works, and many threads wait for it. On average, at least one thread waited all the time.""",
    FindingCode.LOCK_ORDER: """\
Two traced locks are taken in both orders. Two threads that do this at once are stuck: it is a deadlock that has not
happened yet. Only [traced locks](traced-locks.md) report it.""",
    FindingCode.SHM_FULL: """\
`/dev/shm` has hardly any room left. A new lock needs room there. Without it, making one fails with ENOSPC.""",
    FindingCode.STALE_LOCK_FILE: """\
A lock file says who holds the lock, and that process has ended or is on another host. Others poll until the file goes.

Only soft locks are such files: their lock is that the file exists. Newer versions of filelock remove the file
of a dead owner by themselves.""",
    FindingCode.INHERITED_FILE: """\
A process took an flock and has ended. A child has the open file since a fork, and so it keeps the lock. Others wait
for a lock that nobody will release before that child ends.""",
    FindingCode.SHARED_FILE: """\
A worker holds an flock through an open file that other workers have as well. An flock belongs to the open file: all who
share it hold the lock at once. The file was opened before the fork.""",
    FindingCode.LOST_FILE_LOCK: """\
A lock object marks its POSIX lock as acquired, but the kernel has dropped it. The next process that asks gets the
lock: two are inside at once. When a process closes any descriptor of a file, the kernel drops all its POSIX locks.

It is reported for lock objects of fasteners, which keep in an attribute whether they are acquired.""",
    FindingCode.FRAGILE_FILE_LOCK: """\
A process holds a POSIX lock on a file that it has open more than once. As soon as it closes one of these descriptors,
the kernel drops the lock.""",
    FindingCode.LOCAL_LOCK_FILE: """\
The lock file lies on a file system that only this container has. Processes in other containers lock a file of
their own, and are not excluded. That is right where only this container needs the lock.""",
    FindingCode.LEAKED_NAME: """\
Semaphores or SharedMemory blocks in `/dev/shm` are used by no process. A process that was killed left them. They take
room until somebody removes them. Only those that are older than a minute are reported.

`doctor` reports it in one line, for it concerns the machine. The evidence is in `--json` and in the live view.""",
}


# Severities that the code gives, and none of the cases.
MORE_SEVERITIES: dict[FindingCode, Severity] = {FindingCode.STUCK: "warning", FindingCode.OVER_RELEASE: "note"}


def page() -> str:
    found: dict[FindingCode, list[Finding]] = {}
    for _, finding in cases():
        found.setdefault(finding.code, []).append(finding)
    return "\n".join([BEGIN, *_overview(found), "", *(line for code in CODES for line in _section(code, found[code]))])


def _overview(found: dict[FindingCode, list[Finding]]) -> Iterator[str]:
    yield "| code | severity | means |"
    yield "|---|---|---|"
    for code in CODES:
        yield f"| [`{code}`](#{code}) | {', '.join(_severities(code, found[code]))} | {_short(code)} |"


def _short(code: FindingCode) -> str:
    """Return the first sentence of what it means."""
    return " ".join(MEANINGS[code].split()).partition(". ")[0]


def _section(code: FindingCode, findings: list[Finding]) -> Iterator[str]:
    yield f"## {code}"
    yield ""
    yield f"*Severity:* {', '.join(_severities(code, findings))}. {_kind(CODES[code])}"
    yield ""
    yield MEANINGS[code]
    yield ""
    yield "**Evidence.** Each line is a fact. These are the facts that it may rest on, with sample names and numbers:"
    yield ""
    yield "```text"
    for line in _evidence(findings):
        yield from wrapped(line, 110, "- ", "  ")
    yield "```"
    yield ""
    yield "**Cure.** The remedy picks what fits from these, and ends with a command to paste where one helps:"
    yield ""
    for advice in dict.fromkeys(each for finding in findings for each in finding.remedy.advice):
        yield from wrapped(ADVICE[advice].replace("{lock}", "NAME"), 118, "- ", "  ")
    yield ""
    yield "**Example.** A real run of `semtrace doctor` printed this:"
    yield ""
    yield "```text"
    yield (EXAMPLES / f"{code}.txt").read_text().rstrip("\n")
    yield "```"
    yield ""


def _severities(code: FindingCode, findings: Iterable[Finding]) -> list[str]:
    seen = {finding.severity for finding in findings} | {MORE_SEVERITIES.get(code, CODES[code].severity)}
    return [severity for severity in SEVERITIES if severity in seen]


def _kind(info: CodeInfo) -> str:
    if info.of_the_machine:
        return "It concerns the machine, and not this server."
    return "It may pass by itself." if info.passes else "It does not pass by itself."


def _evidence(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the first lines of each kind of fact."""
    facts = {type(fact): fact for finding in reversed(list(findings)) for fact in reversed(finding.facts)}
    for kind in dict.fromkeys(type(fact) for finding in findings for fact in finding.facts):
        yield from list(fact_lines(facts[kind]))[:2]


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}  {PAGE.stat().st_size / 1024:.0f} KB")
