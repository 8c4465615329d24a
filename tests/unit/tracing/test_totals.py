"""The counts of ended processes are kept in one small file, whoever they were and however many."""

from __future__ import annotations

from dataclasses import replace

from support.tracewriter import LOCK, OTHER, P, Q, S, book, files, state_file

from semtrace.tracing.state import State, fold
from semtrace.tracing.tally import Tally
from semtrace.tracing.traced import statistics
from semtrace.wire.totals import COUNTED_SLOTS, TOTAL_SLOTS, TOTALS_SIZE, Totals, decode_totals, encode_totals


def test_totals_are_read_as_they_were_written() -> None:
    totals = Totals().plus(P, [book(acquired=5, hold_max_ns=7), book(lock=OTHER, failed=2)])
    totals = totals.plus(Q, [book(acquired=3, hold_max_ns=4)])
    read = decode_totals(encode_totals(totals))
    assert read == totals
    assert (read.locks[LOCK].acquired, read.locks[LOCK].hold_max_ns, read.locks[OTHER].failed) == (8, 7, 2)
    assert read.counted == (P, Q)


def test_what_is_no_totals_file_is_not_read() -> None:
    data = encode_totals(Totals().plus(P, [book()]))
    assert decode_totals(data[:-1]) is None
    assert decode_totals(bytes(len(data))) is None
    too_many = data[:16] + (TOTAL_SLOTS + 1).to_bytes(8, "little") + data[24:]
    assert decode_totals(too_many) is None


def test_most_recently_used_locks_stay_when_there_are_too_many() -> None:
    totals = Totals().plus(P, [book()])
    for inode in range(TOTAL_SLOTS):
        totals = totals.plus(P, [book(lock=OTHER._replace(inode=inode + 10_000))])
    assert len(totals.locks) == TOTAL_SLOTS
    assert LOCK not in totals.locks
    assert len(totals.counted) == COUNTED_SLOTS
    assert len(encode_totals(totals)) == TOTALS_SIZE


def test_process_in_totals_counts_once_for_early_and_late_viewers() -> None:
    early = fold(State(), files(S, state_file(P, book(acquired=5)), state_file(Q, book(acquired=1))))
    ended = replace(files(2 * S, state_file(Q, book(acquired=2))), totals={LOCK: Tally(acquired=6)})
    for state in (fold(early, ended), fold(State(), ended)):
        assert statistics(state, LOCK, state.files[Q].locks).acquired == 8
