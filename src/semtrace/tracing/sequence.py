"""Find by the sequence numbers of a process which records never came. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from semtrace.lazydata import replace

# Threads of one process overtake each other: a number that is missing may still come within so many.
REORDERED = 64


@dataclass(slots=True)
class Stream:
    """The sequence numbers of one process. `reported_lost` is this viewer's loss by the state file, `healed` how many
    had been skipped when that file was read.
    """

    next: int = 0
    missing: set[int] = field(default_factory=set)
    skipped: int = 0
    reported_lost: int = 0
    healed: int = 0

    @property
    def whole(self) -> bool:
        """Nothing is missing that the file has not made up for."""
        return not self.missing and self.skipped == self.healed

    @property
    def lost(self) -> int:
        """The file counts what did not fit; the numbers show as well what never came for other reasons."""
        return max(self.skipped, self.reported_lost)

    def copy(self) -> Stream:
        return replace(self, missing=self.missing.copy())

    def surprise(self, sequence: int) -> None:
        """Another number than the next one."""
        if not self.next:  # the first that we get: the viewer came in the middle
            self.next = sequence + 1
        elif sequence < self.next:
            self.missing.discard(sequence)
        else:
            first = max(self.next, sequence - REORDERED)
            self.skipped += first - self.next
            self.missing.update(range(first, sequence))
            self.next = sequence + 1
        self.settle()

    def settle(self) -> None:
        """Count records as lost that have been missing for too long."""
        late = {number for number in self.missing if number < self.next - REORDERED}
        self.skipped += len(late)
        self.missing -= late
