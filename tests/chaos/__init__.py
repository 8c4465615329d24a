"""The chaos test: programs that are killed, stopped, forked and starved, and snapshots compared with their journal.

    python -m tests.chaos --minutes 60          from the project's root; --help lists the rest

`programs/` take and release locks and write it into a journal in shared memory. `controller` kills, stops and starves
them, by a seed. `episode` takes snapshots of one program and has each compared (`judge`) with what the journal says
(`truth`), where nothing changed around the snapshot. `orphans` measures how long a dead process's lock stays
undiscovered and gives it back, by semtrace's own release or without. `families` lists what there is to run.

What cannot be judged: moments in which a lock changes hands, and threads in the middle of an act while others are, too.
"""
