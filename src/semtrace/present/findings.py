"""A finding as text: its title, its evidence and its remedy. Pure."""

from __future__ import annotations

from semtrace.model import IMPORT, Finding, FindingCode
from semtrace.present.facts import fact_lines
from semtrace.present.remedies import advice_text, command_text
from semtrace.present.titles import title
from semtrace.present.wording import lock_names
from semtrace.text import age, clean

__all__ = ["advice", "command", "evidence", "name", "remedy", "title"]


def evidence(finding: Finding) -> tuple[str, ...]:
    """Return what was seen, one statement a line."""
    lines = [line for fact in finding.facts for line in fact_lines(fact)]
    if finding.over_s is not None:
        lines.append(f"over by now: last seen {age(finding.over_s)} ago")
    return tuple(lines)


def name(finding: Finding) -> str:
    """Return what it is about: one lock, or the two of a pair, for the first may be in other pairs as well."""
    if finding.code == FindingCode.LOCK_ORDER:
        return lock_names(finding.locks)
    imports = finding.main_lock is not None and finding.main_lock.kind == IMPORT
    return lock_names(finding.locks[:1]) if imports else clean(finding.name)


def advice(finding: Finding) -> str:
    """Return what to do, as prose in one line."""
    return advice_text(finding.remedy, finding.name)


def command(finding: Finding) -> str | None:
    """Return the command to paste, if there is one."""
    return command_text(finding.remedy)


def remedy(finding: Finding) -> str:
    """Return the advice, and the command in a line of its own."""
    return "\n".join(filter(None, (advice(finding), command(finding))))
