"""The opcodes of CPython 3.8 to 3.15 by what they do, as far as finding a method's name takes.

From 3.11 on the interpreter overwrites its code with specialised opcodes, which keep their argument, and cache entries
follow some of them. The tables are what `tests/programs/opcodes_of.py` prints for 3.8.18, 3.9.18, 3.10.13, 3.11.7,
3.12.1, 3.13.0, 3.14.10 and 3.15.2 (Lib/opcode.py, from 3.13 on Lib/_opcode_metadata.py). An opcode that is in no table
(coverage and debuggers put INSTRUMENTED_* there) ends a scan.
"""

from __future__ import annotations

from enum import Enum
from functools import cache


class Op(Enum):
    """The effect of an instruction."""

    EXTENDED = "extended"  # widens the next argument
    LOCAL = "local"  # loads a local variable
    LOCALS = "locals"  # loads one after another access to a local variable: both are in the argument, four bits each
    CELL = "cell"  # loads a variable that functions share
    NAME = "name"  # loads a name of a module's or a class's body
    MODULE = "module"  # loads a global
    ATTRIBUTE = "attribute"  # loads an attribute or a method of what was loaded last
    ENTERS = "enters"  # belongs to `with`
    DROPS = "drops"  # drops a result
    USES = "uses"  # stores or tests a result, or returns it
    OTHER = "other"


Table = dict[int, tuple[Op, int]]
"""By opcode: what it does, and how many cache entries of two bytes follow."""

# Ranges of opcodes; by kind, and by the number of cache entries.
_RANGES: dict[tuple[int, int], tuple[dict[Op, str], dict[int, str]]] = {
    (3, 8): (
        {
            Op.EXTENDED: "144",
            Op.LOCAL: "124",
            Op.CELL: "136 148",
            Op.NAME: "101",
            Op.MODULE: "116",
            Op.ATTRIBUTE: "106 160",
            Op.ENTERS: "52 143 154",
            Op.DROPS: "1",
            Op.USES: "60 83 90 95 97 111-112 114-115 125 137",
            Op.OTHER: "2-6 9-12 15-17 19-20 22-29 50-51 53-57 59 61-73 75-79 81-82 84-89 91-94 96 98 100 102-105 "
            "107-110 113 122 126 130-133 135 138 141-142 145-147 149-153 155-158 161-163",
        },
        {},
    ),
    (3, 9): (
        {
            Op.EXTENDED: "144",
            Op.LOCAL: "124",
            Op.CELL: "136 148",
            Op.NAME: "101",
            Op.MODULE: "116",
            Op.ATTRIBUTE: "106 160",
            Op.ENTERS: "52 143 154",
            Op.DROPS: "1",
            Op.USES: "60 83 90 95 97 111-112 114-115 121 125 137",
            Op.OTHER: "2-6 9-12 15-17 19-20 22-29 48-51 54-57 59 61-79 82 84-87 89 91-94 96 98 100 102-105 107-110 113 "
            "117-118 122 126 130-133 135 138 141-142 145-147 155-157 161-165",
        },
        {},
    ),
    (3, 10): (
        {
            Op.EXTENDED: "144",
            Op.LOCAL: "124",
            Op.CELL: "136 148",
            Op.NAME: "101",
            Op.MODULE: "116",
            Op.ATTRIBUTE: "106 160",
            Op.ENTERS: "52 143 154",
            Op.DROPS: "1",
            Op.USES: "60 83 90 95 97 111-112 114-115 121 125 137",
            Op.OTHER: "2-6 9-12 15-17 19-20 22-34 49-51 54-57 59 61-79 82 84-87 89 91-94 96 98-100 102-105 107-110 113 "
            "117-119 122 126 129-133 135 138 141-142 145-147 152 155-157 161-165",
        },
        {},
    ),
    (3, 11): (
        {
            Op.EXTENDED: "34 144",
            Op.LOCAL: "45-46 124",
            Op.CELL: "137 148",
            Op.NAME: "101",
            Op.MODULE: "47-48 55 116",
            Op.ATTRIBUTE: "39-43 56-59 62-63 106 160",
            Op.ENTERS: "52-53",
            Op.DROPS: "1",
            Op.USES: "60 83 90 95 97 111-112 114-115 125 128-129 138 153-154 158-159 161 167-170 173-176",
            Op.OTHER: "0 2-33 35-38 44 49-51 54 61 64-82 84-89 91-94 96 98-100 102-105 107-110 113 117-123 126-127 "
            "130-136 139-143 145-147 149-152 155-157 162-166 171-172 177-180",
        },
        {
            1: "3-8 13-14 16 60 64-67 72-73 76-81 92 113 121-122 127 141 143 166 168-170 177-180",
            2: "26-29 107",
            4: "17-25 39-43 95 106 153-154 158-159 171",
            5: "47-48 55 116",
            10: "56-59 62-63 160",
        },
    ),
    (3, 12): (
        {
            Op.EXTENDED: "144",
            Op.LOCAL: "86 88 124 127",
            Op.CELL: "137",
            Op.NAME: "101",
            Op.MODULE: "111-112 116",
            Op.ATTRIBUTE: "70 72-73 76-82 106",
            Op.ENTERS: "52-53",
            Op.DROPS: "1",
            Op.USES: "27 60 83 90 95 97 113-115 125 128-129 138 148 153-154 158-160",
            Op.OTHER: "0 2-26 28-51 54-59 61-69 71 74-75 84-85 87 89 91-94 96 98-100 102-105 107-110 117-123 126 "
            "130-136 139-143 145-147 149-152 155-157 161-168 171-176",
        },
        {
            1: "6-8 10 13-14 16 18-22 25 57-60 62-67 92-93 107 122-123 141 159-161 166-168",
            3: "23-24 28-29 34 38-48 56 171",
            4: "95 111-113 116 148 153",
            9: "70 72-73 76-82 106",
        },
    ),
    (3, 13): (
        {
            Op.EXTENDED: "71",
            Op.LOCAL: "85 87",
            Op.LOCALS: "88 111",
            Op.CELL: "84",
            Op.NAME: "92",
            Op.MODULE: "91 203-204",
            Op.ATTRIBUTE: "82 191-202",
            Op.ENTERS: "1-2",
            Op.DROPS: "32",
            Op.USES: "36 38-39 97-100 108-110 112-114 209-213",
            Op.OTHER: "0 3-31 33-35 37 40-69 72-81 83 86 89-90 93-96 101-107 115-118 149-190 205-208 214-222",
        },
        {
            1: "3 5 39 45 58-59 72 77 93 97-100 104 117 150-161 182-190 205-206 208 212-213 220-222",
            3: "40 53 162-181 214-219",
            4: "91 108 203-204 209-211",
            9: "82 191-202",
        },
    ),
    (3, 14): (
        {
            Op.EXTENDED: "69",
            Op.LOCAL: "84 86 88",
            Op.LOCALS: "87 89 113",
            Op.CELL: "83",
            Op.NAME: "93",
            Op.MODULE: "92 192-193",
            Op.ATTRIBUTE: "80 177-189",
            Op.ENTERS: "95",
            Op.DROPS: "31",
            Op.USES: "35 37-38 100-103 110-112 114-116 198-202",
            Op.OTHER: "0-30 32-34 36 39-68 70-79 81-82 85 90-91 94 96-99 104-109 117-120 128-176 190-191 194-197 "
            "203-211",
        },
        {
            1: "38 56-57 70 75 96 100-103 106 119 166-176 194-195 197 201-202 209-211",
            3: "39 52 55 143-165 203-208",
            4: "92 110 192-193 198-200",
            5: "3 44 129-142",
            9: "80 177-189",
        },
    ),
    (3, 15): (
        {
            Op.EXTENDED: "67",
            Op.LOCAL: "83 85 87",
            Op.LOCALS: "86 88 112",
            Op.CELL: "82",
            Op.NAME: "92",
            Op.MODULE: "91 196-197",
            Op.ATTRIBUTE: "79 183-195",
            Op.ENTERS: "94",
            Op.DROPS: "29",
            Op.USES: "33 35-36 99-102 109-111 113-115 205-209",
            Op.OTHER: "0-28 30-32 34 37-66 68-78 80-81 84 89-90 93 95-98 103-108 116-119 128-182 198-204 210-218 255",
        },
        {
            1: "4 36 54-55 68 70 74 95 99-102 105 118 128 151-152 169-182 198-204 208-209 216-218",
            3: "37 50 53 144-150 153-168 210-215",
            4: "91 109 196-197 205-207",
            5: "3 42 129-143",
            9: "79 183-195",
        },
    ),
}


@cache
def opcodes(version: tuple[int, int]) -> Table:
    """Return the table of this version, empty for one that is not known."""
    kinds, caches = _RANGES.get(version, ({}, {}))
    entries = {number: count for count, row in caches.items() for number in _numbers(row)}
    return {number: (op, entries.get(number, 0)) for op, row in kinds.items() for number in _numbers(row)}


def _numbers(row: str) -> list[int]:
    found: list[int] = []
    for each in row.split():
        first, _, last = each.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
