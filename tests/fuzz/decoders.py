"""The fuzzers. Each makes what a target could have written, damages it, and has it decoded."""

from __future__ import annotations

import contextlib
import json
import os
import random
import struct
import time
import zlib
from collections.abc import Callable

from support import start_ticks
from support.recordings import TYPES, any_snapshot, frames, moving, recorded
from support.tracewriter import LOCK, OTHER, P, Q, record

from fuzz.running import TEXTS, Fuzzer, damaged
from semtrace.console.printing import harmless
from semtrace.cpython.bytecode import decode
from semtrace.cpython.elf import load_image
from semtrace.cpython.linetables import line_at
from semtrace.cpython.page_cache import Pages
from semtrace.linux import maps
from semtrace.linux.descriptors import parse_tcp, parse_unix
from semtrace.linux.filelocks import parse_file_locks
from semtrace.linux.maps import parse_mappings
from semtrace.linux.nativestack import interrupted, returns_into
from semtrace.linux.process import parse_stat
from semtrace.linux.program import parse_status
from semtrace.linux.shm import parse_sem, parse_shared
from semtrace.linux.sockdiag import parse_answer, parse_dump
from semtrace.linux.syscalls import parse_call
from semtrace.linux.withheld import FILE
from semtrace.model import Lock, ProcessId, SemId, Snapshot
from semtrace.observe import pyspy
from semtrace.record.chunks import Chunk, ChunkKind, Compression, deflated, plain, walk
from semtrace.record.codec import Shared
from semtrace.record.eventlog import Legend, event_chunks, events_of, legend_chunk, legend_of
from semtrace.record.groups import GroupReader
from semtrace.record.head import NotARecording
from semtrace.record.numbers import Damaged
from semtrace.record.replay import values_that_no_server_has
from semtrace.repairs.report import not_done
from semtrace.reports.diagnosis import doctor_json, doctor_text
from semtrace.reports.dump import report
from semtrace.reports.schema import snapshot_json
from semtrace.rules import with_findings
from semtrace.servers import gunicorn_options
from semtrace.servers.gunicornctl import parse_config
from semtrace.text import clean, clip, label
from semtrace.tracing.events import Decoder
from semtrace.tracing.folding import MOST_HOLDS
from semtrace.tracing.state import Files, State, fold
from semtrace.tracing.traced import problems, refine, tracing
from semtrace.web.gate import gate_for
from semtrace.wire.event import EventType, encode_event
from semtrace.wire.offsets import (
    LOCK_WORDS,
    STATE_SIZE,
    Header,
    LockWord,
    encode_header,
    encode_site,
    identity_word,
    lock_at,
    site_at,
)
from semtrace.wire.statefile import decode_state
from semtrace.wire.words import Flag, Kind

LOCKS = (Lock(LOCK, "Lock", "orphaned", 0, 1, mapped_by=(P,)), Lock(OTHER, "unknown", "unknown", 0, None))


WORDS = (0, 1, 77, 1 << 32, 1 << 63, (1 << 64) - 1)


def a_state_file(random_: random.Random) -> bytes:
    data = bytearray(STATE_SIZE)
    header = encode_header(random_.choice([P, Q]), 1, 1)
    header[Header.SITES] = random_.choice([0, 1, 512, 1 << 63])
    struct.pack_into(f"<{len(header)}Q", data, 0, *header)
    for slot in range(random_.randint(0, 4)):
        at = lock_at(slot)
        lock = random_.choice([LOCK, OTHER])
        struct.pack_into("<2Q", data, at * 8, lock.inode, identity_word(lock, Kind.LOCK, Flag.NONE, slot))
        for _ in range(random_.randint(0, 12)):
            word = random_.randrange(LockWord.WHO, LOCK_WORDS)
            struct.pack_into("<Q", data, (at + word) * 8, random_.choice(WORDS))
    data[site_at(0) : site_at(1)] = encode_site("/app/a.py", 7)
    return bytes(data)


def state_files(random_: random.Random) -> None:
    state = State()
    for at_ns in range(1, 3):
        data, again = (damaged(a_state_file(random_), random_)[:STATE_SIZE] for _ in range(2))
        data, again = (each.ljust(STATE_SIZE, b"\0") for each in (data, again))
        decoded = decode_state(data, random_.choice([None, data, again]))
        if decoded is not None:
            living = frozenset({decoded.process} if random_.random() < 0.5 else ())
            state = fold(state, Files(at_ns, (decoded,), living, {decoded.process: 1}, living, random_.randrange(3)))
    shown(state, random_)


def shown(state: State, random_: random.Random) -> None:
    refine(LOCKS, state, random_.choice([1, 1 << 62]), random_.choice([(), (P,), (P, Q)]), {}, (Q,))
    tracing(state, 1 << 62, True, {})
    problems(state)


def events(random_: random.Random) -> None:
    number = numbers(random_)
    several = [
        record(
            random_.choice(list(EventType)),
            number(),
            number(),
            random_.choice([None, number() % ((1 << 64) - 1)]),
            random_.choice([P, Q, ProcessId(number() % (1 << 32) or 1, number())]),
            random_.choice([None, LOCK, OTHER, SemId(number() % 4096, number() % (1 << 20), number() or 1)]),
            number() % (1 << 32) or 1,
            random_.choice(list(Kind)),
            random_.choice([Flag.NONE, Flag.SIGNAL]),
            number() % (1 << 32),
        )
        for _ in range(random_.randint(1, 40))
    ]
    data = damaged(b"".join(map(encode_event, several)), random_)
    decoder, state, half = Decoder(), State(), random_.randrange(len(data) + 1)
    for piece in (data[:half], data[half:]):
        state = fold(state, decoder.decode(piece))
    shown(state, random_)
    assert all(len(cell.waits) <= MOST_HOLDS for cell in state.cells.values())


def numbers(random_: random.Random) -> Callable[[], int]:
    return lambda: random_.choice([0, 1, 2, 77, 1 << 31, 1 << 32, 3 * 10**18, (1 << 64) - 2, random_.getrandbits(63)])


def proc_files(random_: random.Random) -> None:
    stat = b"7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 99 1000 200 18446744073709551615" + b" 0" * 30
    parse_stat(7, damaged(stat, random_))
    parse_status(damaged(b"Name:\tx\nTgid:\t7\nSigBlk:\t0\nSigCgt:\tff\nUid:\t1\t2\t3\t4\nNSpid:\t7\t1\n", random_))
    parse_sem(damaged(bytes(32), random_))
    parse_shared(damaged(bytes(32), random_))
    head = b"  sl  local_address\n"
    tcp = head + b"   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 4242 1 0\n"
    list(parse_tcp(damaged(tcp, random_)))
    list(parse_unix(damaged(head + b"0: 00000002 00000000 00010000 0001 01 4243 @/run/x\n", random_)))
    line = b"7f00-8f00 rw-s 00000000 00:1b 42 /dev/shm/sem.mp-x (deleted)\n"
    text = damaged(line * 3, random_)
    list(parse_mappings(text))
    list(maps._semaphores_in_text(text))
    FILE.fullmatch(damaged(b"/proc/1/mem", random_).decode("latin-1"))


def elf_images(random_: random.Random) -> None:
    dynamic = struct.pack("<10Q", 6, 4096, 5, 8192, 10, 4096, 0x6FFFFEF5, 12288, 0, 0)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    heads = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 16384, 16384, 4096)
    heads += struct.pack("<IIQQQQQQ", 2, 6, 0, 1024, 0, 80, 80, 8)
    whole = bytearray((header + heads).ljust(1024, b"\0") + dynamic)
    whole = bytearray(damaged(bytes(whole), random_)).ljust(16384, b"\0")
    for _ in range(20):
        at = 8 * random_.randrange(2048)
        whole[at : at + 8] = random_.choice([1, 2, 3, 1 << 20, (1 << 64) - 1]).to_bytes(8, "little")
    began = time.monotonic()
    image = load_image(Pages(Piece(bytes(whole))), BASE)  # type: ignore[arg-type]
    if image is not None:
        image.find("_PyRuntime")
        image.imports(["sem_wait"])
    assert time.monotonic() - began < 10


BASE = 1 << 32


class Piece:
    """Memory that is a piece of bytes at BASE and nothing else."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, address: int, size: int) -> bytes | None:
        at = address - BASE
        return self.data[at : at + size] if at >= 0 and at + size <= len(self.data) else None

    def at(self, at: int, size: int) -> bytes:
        return self.data[at : at + size]

    def u64(self, address: int) -> int | None:
        data = self.read(address, 8)
        return None if data is None else int.from_bytes(data, "little")


def native_stacks(random_: random.Random) -> None:
    words = [random_.choice([0, BASE, BASE + 8, BASE + 4096, (1 << 64) - 1]) for _ in range(random_.randrange(2048))]
    memory = Piece(struct.pack(f"<{len(words)}Q", *words))
    returns_into(memory, BASE, [(BASE, BASE + 64)])  # type: ignore[arg-type]
    interrupted(memory, BASE, [(BASE, BASE + 64)])  # type: ignore[arg-type]


def py_spy_output(random_: random.Random) -> None:
    frame = {"name": "f", "filename": "/etc/x.py", "line": random_.choice([1, -1, 1 << 70, None, "x"])}
    thread = {"thread_id": random_.choice([1, 1 << 70, -1, None]), "os_thread_id": os.getpid(), "frames": [frame] * 3}
    data = damaged(json.dumps([thread] * 2).encode(), random_)
    pyspy.take([ProcessId(os.getpid(), random_.choice([1, OWN_TICKS]))], lambda pid: data)


OWN_TICKS = start_ticks(os.getpid()) or 0


def names_and_lines(random_: random.Random) -> None:
    raw = damaged("lock \u202e\u00e9 name".encode() + random_.choice(TEXTS), random_)
    text = raw.decode("utf-8", "surrogateescape")
    for colour in (False, True):
        line = harmless(text, colour)
        assert line.isprintable() or colour
        assert all(char.isprintable() or char == "\x1b" for char in line)
    assert clean(text).isprintable()
    clip(text, random_.randrange(10))
    lock = Lock(LOCK, "Lock", "orphaned", 0, 1, name=text)
    assert label(lock).isprintable()
    assert all(line.isprintable() for line in not_done(1, lock, None))


def web_requests(random_: random.Random) -> None:
    gate = gate_for("127.0.0.1")
    host = damaged(b"127.0.0.1:8000", random_).decode("latin-1")
    gate.admits_host(host)
    gate.admits_page(f"http://{host}", host)
    assert not gate.knows(host)


def control_sockets(random_: random.Random) -> None:
    worker = random_.choice(["<class 'gunicorn.workers.sync.SyncWorker'>", "x" * 500, 7, None, [], {}])
    timeout = random_.choice([30, -1, 1e308, float("nan"), True, "30", None, 1 << 70])
    parse_config({"timeout": timeout, "worker_class": worker})


def kernel_tables(random_: random.Random) -> None:
    """Paths and names in them are the target's choice."""
    locks = b"1: POSIX  ADVISORY  WRITE 7 00:1b:42 0 EOF\n1: -> POSIX  ADVISORY  READ 8 00:1b:42 0 9\n"
    list(parse_file_locks(damaged(locks + b"2: FLOCK  ADVISORY  WRITE -1 00:1b:43 0 1\n", random_)))
    parse_call(damaged(b"17 0x3 0x7f00 0x4000 0x1 0x0 0x0 0x7ffe 0x7f11\n", random_))
    answer = damaged(struct.pack("<IHHII", 64, 20, 2, 1, 0) + bytes(48), random_)
    parse_dump(answer, 1)
    parse_answer(answer, 1, 42)


def code_tables(random_: random.Random) -> None:
    table = random_.randbytes(random_.randrange(200))
    version = (3, random_.randrange(8, 16))
    line_at(version, table, random_.choice([0, 1, 1 << 31]), random_.randrange(-2, 400))
    assert len(list(decode(version, table))) <= len(table)


def command_lines(random_: random.Random) -> None:
    line = b"/usr/bin/python3\0/usr/bin/gunicorn\0-w\x004\0-t\x0030\0--worker-class=gthread\0--threads\x002\0a:b"
    words = [os.fsdecode(word) for word in damaged(line, random_).split(b"\0")]
    environ = {
        "GUNICORN_CMD_ARGS": os.fsdecode(damaged(b"--timeout 5 -k 'sync' \"-w 3", random_)),
        "WEB_CONCURRENCY": "x",
    }
    found = gunicorn_options.arguments(words)
    gunicorn_options.settings(found or words, random_.choice([environ, None]), random_.choice([True, False, None]))
    gunicorn_options.application_of_title(" ".join(words))
    gunicorn_options.short_class(words[0])


def recordings(random_: random.Random) -> None:
    """Damaged below the checksum: what a hostile writer makes, through all that shows it."""
    writer, reader = Shared(), GroupReader(TYPES.reader(TYPES.description))
    several = [any_snapshot(random_)] if random_.random() < 0.3 else moving(3)
    packer, before = zlib.compressobj(1, zlib.DEFLATED, -15), None
    for number, each in enumerate(several):
        writer.clock.move(each.monotonic_s)
        new = TYPES.codec.whole(each, writer) if before is None else TYPES.codec.changes(each, before, writer)
        before = each
        data = packer.compress(struct.pack(">d", each.monotonic_s) + damaged(new, random_)) + packer.flush(2)
        chunk = Chunk(ChunkKind.NEXT if number else ChunkKind.GROUP, Compression.DEFLATE, number, number, data[:-4])
        with contextlib.suppress(Damaged, NotARecording), values_that_no_server_has("x"):
            if (frame := reader.frame(chunk)) is not None:
                replayed(frame.snapshot)
    with contextlib.suppress(Damaged):
        told = legend_chunk(Legend({3: ("/a.py", 7)}, {LOCK: "a"}, {P: 1000}, frozenset({0})), 1)
        legend_of(told._replace(payload=deflated(damaged(plain(told), random_))))
    for each in event_chunks(0, damaged(bytes(640), random_), 1):
        with contextlib.suppress(Damaged):
            events_of(each._replace(payload=damaged(each.payload, random_)))
    list(walk(Piece(damaged(b"".join(recorded(frames(moving(3)))), random_)).at, 0, 1 << 16))


def replayed(snapshot: Snapshot) -> None:
    snapshot = with_findings(snapshot) if snapshot.alive else snapshot
    list(report(snapshot))
    list(doctor_text(snapshot, 1))
    json.dumps([snapshot_json(snapshot), doctor_json(snapshot)])


FUZZERS: dict[str, Fuzzer] = {
    function.__name__: function
    for function in (
        state_files,
        events,
        proc_files,
        elf_images,
        native_stacks,
        py_spy_output,
        names_and_lines,
        web_requests,
        control_sockets,
        kernel_tables,
        code_tables,
        command_lines,
        recordings,
    )
}
