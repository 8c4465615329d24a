"""The namespace of a module of a sample, by the module's name in `sys.modules`."""

from __future__ import annotations

from semtrace.cpython import layout as at
from semtrace.cpython.bytecode import item_of
from semtrace.cpython.classes import Form
from semtrace.cpython.stack import Sample, interpreters


def namespace_of(sample: Sample, module: str) -> int:
    """Return the address of the module's `__dict__` in the first interpreter that has it, 0 without one."""
    for state in interpreters(sample.objects, sample.runtime):
        found = item_of(sample.objects, sample.objects.pages.u64(state + sample.objects.layout.modules), module)
        cls = sample.classes.of(found)
        if cls is not None and cls.form is Form.MODULE:
            return sample.objects.pages.u64(found + at.MODULE_DICT)
    return 0
