"""The line of a `with` whose block a frame is inside of.

From 3.11 on the exception table leads there. The entry that covers the frame's instruction has a handler. The block
around it covers that handler, and so on outwards. Up to 3.10 the frame has a list of its blocks.
"""

from __future__ import annotations

from itertools import islice

from semtrace.cpython import layout as at
from semtrace.cpython.bytecode import code_bytes, decode
from semtrace.cpython.objects import Objects
from semtrace.cpython.opcodes import Op
from semtrace.cpython.stack import PyFrame, line_of
from semtrace.cpython.withblocks import exception_table, handlers

_MOST_BLOCKS = 200
_MOST_HANDLERS = 4096
_BLOCK_HANDLER = 4  # Include/cpython/frameobject.h PyTryBlock {int b_type, b_handler, b_level}, 3.8 to 3.10


def with_line(objects: Objects, frame: PyFrame, level: int) -> int | None:
    """Return the line of the `with` whose `__exit__` lies `level` places above the bottom of the frame's stack."""
    by = _start_by_table if objects.layout.frame_instruction else _start_by_block
    start = by(objects, frame, level)
    return None if start is None or start < 0 else line_of(objects, frame.code, start)


def _start_by_table(objects: Objects, frame: PyFrame, level: int) -> int | None:
    """Objects/exception_handling_notes.txt; Python/compile.c 3.11 compiler_with: SETUP_WITH pushes lasti, which no
    `try` does. The block begins right behind what enters it.
    """
    table = list(islice(handlers(exception_table(objects, frame.code)), _MOST_HANDLERS))
    depth = level + 1 + objects.layout.tagged_references  # from 3.14 on the lock lies above its __exit__
    place = frame.instruction // 2
    for _ in range(_MOST_BLOCKS):
        around = next((each for each in table if each.start <= place < each.end), None)
        if around is None:
            return None
        if around.keeps and around.depth == depth:
            return 2 * (min(each.start for each in table if each.target == around.target) - 1)
        place = around.target
    return None


def _start_by_block(objects: Objects, frame: PyFrame, level: int) -> int | None:
    """Python/ceval.c 3.8 to 3.10 SETUP_WITH: the block has the level of the stack with `__exit__` on it. In 3.10 its
    handler counts instructions, before that bytes.
    """
    pages, unit = objects.pages, 2 if objects.layout.version >= (3, 10) else 1
    blocks = frame.address + objects.layout.frame_locals - at.BLOCKS * at.BLOCK_SIZE
    for block in range(blocks, blocks + min(pages.u32(blocks - 8), at.BLOCKS) * at.BLOCK_SIZE, at.BLOCK_SIZE):
        if pages.u32(block + at.BLOCK_LEVEL) == level + 1:
            handler = unit * pages.u32(block + _BLOCK_HANDLER)
            steps = decode(objects.layout.version, code_bytes(objects, frame.code))
            enters = (step for step in steps if step.op is Op.ENTERS)
            return next((step.offset for step in enters if step.offset + 2 + unit * step.argument == handler), None)
    return None
