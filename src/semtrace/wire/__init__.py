"""The bytes between a traced server and its viewers: event records, state files, and where they lie.

    /dev/shm/semtrace-UID/PID-TICKS/        one directory for each traced server, named after its first traced process
        control                             one word that a viewer changes when it has made its FIFO
        PID-TICKS.state                     one for each traced process: what it holds, since when, where, counters
        totals                              what processes counted that have ended
        PID-TICKS-N.fifo                    one for each viewer, made by it; PID-TICKS is the viewer's own

Everything is little-endian and made of aligned 64-bit words, each stored by one instruction: a word is never torn.
Nothing here does I/O. The record is versioned by itself, the two files by a magic word and a version word.
"""
