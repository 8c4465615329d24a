"""Print the opcodes of this interpreter by what they do, specialised ones included, and how many cache entries follow.

Runs on Python 3.8 and later.
"""

import dis
import json
import opcode
import sys

KINDS = {
    "attribute": ("LOAD_ATTR", "LOAD_METHOD"),
    "local": ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"),
    "locals": ("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "STORE_FAST_LOAD_FAST"),
    "cell": ("LOAD_DEREF", "LOAD_CLASSDEREF"),
    "name": ("LOAD_NAME",),
    "module": ("LOAD_GLOBAL",),
    "extended": ("EXTENDED_ARG",),
    "enters": ("BEFORE_WITH", "SETUP_WITH", "LOAD_SPECIAL", "BEFORE_ASYNC_WITH", "SETUP_ASYNC_WITH"),
    "drops": ("POP_TOP",),
}


def opcodes():
    """The opcodes by name; the name of the instruction that a specialised one stands for; cache entries by name."""
    if sys.version_info < (3, 11):
        return opcode.opmap, {}, {}
    if sys.version_info < (3, 13):
        counts = opcode._inline_cache_entries
        caches = {name: counts[number] for name, number in opcode.opmap.items() if number < len(counts)}
        return dis._all_opmap, opcode._specializations, caches
    import _opcode_metadata

    everything = {**_opcode_metadata.opmap, **_opcode_metadata._specialized_opmap}
    return everything, _opcode_metadata._specializations, opcode._inline_cache_entries


def uses(name):
    """Whether this takes a result from the stack to decide or to keep it."""
    return "JUMP_IF" in name or name.startswith(("POP_JUMP", "STORE_")) or name == "RETURN_VALUE"


def kind(name):
    for found, names in KINDS.items():
        if name in names:
            return found
    return "uses" if uses(name) else "other"


numbers, specialised, caches = opcodes()
plain = {each: name for name, row in specialised.items() for each in row}
found = {}
for name, number in numbers.items():
    base = plain.get(name, name)
    if number < 256 and not name.startswith(("INSTRUMENTED", "ENTER_EXECUTOR")):
        found[number] = (kind(base), caches.get(base, 0))
print(json.dumps(found))
