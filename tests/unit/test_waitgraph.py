"""Who blocks whom, in pictures made by hand."""

from __future__ import annotations

from dataclasses import replace

from tui.fakes import finding, holder, lock, master, picture, sem, waiter, worker

from semtrace.model import Finding, Lock, Snapshot
from semtrace.waitgraph import MOST_DEPTH, MOST_NODES, Circle, Forest, Node, Thread, Whole, forest


def wanted(number: int, held_by: tuple[int, ...], waited_by: tuple[int, ...], **changes: object) -> Lock:
    waiters = tuple(waiter(each, float(each % 100)) for each in waited_by)
    holders = tuple(holder(each, 50.0) for each in held_by)
    return lock(number, "contended", holders=holders, waiters=waiters, **changes)


def seen(*locks: Lock, findings: tuple[Finding, ...] = ()) -> Snapshot:
    return picture(locks, [master(), *(worker(number) for number in range(1, 9))], findings=findings)


def drawn(found: Forest) -> list[str]:
    """`  4 1`: the thread of PID 4, at depth 1, blocks one."""
    return [
        f"{'  ' * node.depth}{word(node)} {node.blocks}{' ' + node.circle if node.circle else ''}"
        for node in found.nodes
    ]


def word(node: Node) -> str:
    match node.id:
        case Thread(process, _):
            return str(process.pid)
        case Whole(identity):
            return f"lock {str(identity).rpartition(':')[2]}"
        case Circle():
            return "circle"


def test_where_nobody_waits_there_is_nothing() -> None:
    assert forest(seen(lock(1), lock(2, "held", holders=(holder(1),)))) == Forest()


def test_a_chain_is_below_the_one_that_waits_for_nothing() -> None:
    found = forest(seen(wanted(1, (1,), (2,)), wanted(2, (2,), (3, 4))))
    assert drawn(found) == ["1 3", "  2 2", "    4 0", "    3 0"]
    assert (found.waiting, found.roots, found.left_out) == (3, 1, 0)
    assert found.nodes[0].longest_s == 4.0
    assert [node.last for node in found.nodes] == [(), (True,), (True, False), (True, True)]


def test_the_root_that_blocks_most_comes_first_then_the_one_that_is_waited_for_longest() -> None:
    found = forest(seen(wanted(1, (1,), (4,)), wanted(2, (2,), (5,)), wanted(3, (3,), (6, 7))))
    assert [word(node) for node in found.nodes if not node.depth] == ["3", "2", "1"]


def test_a_thread_that_holds_two_locks_blocks_both_their_waiters() -> None:
    found = forest(seen(wanted(1, (1,), (2,)), wanted(2, (1,), (3,))))
    assert drawn(found) == ["1 2", "  3 0", "  2 0"]
    assert [each.id for each in found.nodes[0].held] == [sem(1), sem(2)]


def test_two_ways_to_one_root_count_each_thread_once() -> None:
    found = forest(seen(wanted(1, (1,), (2, 3)), wanted(2, (2, 3), (4,), maximum=2)))
    assert drawn(found) == ["1 3", "  3 0", "  2 1", "    lock 2 1", "      4 0"]


def test_an_orphan_and_an_unknown_holder_are_roots() -> None:
    orphan = replace(wanted(1, (), (2, 3)), state="orphaned")
    unknown = replace(wanted(2, (), (4,)), state="unknown")
    found = forest(seen(unknown, orphan))
    assert drawn(found) == ["lock 1 2", "  3 0", "  2 0", "lock 2 1", "  4 0"]
    assert found.nodes[0].wanted is not None
    assert found.nodes[0].wanted.state == "orphaned"


def test_a_semaphore_of_which_one_holder_runs_is_a_root_of_its_own() -> None:
    found = forest(seen(wanted(1, (1, 2), (3,), maximum=2), wanted(2, (4,), (2,))))
    assert drawn(found) == ["lock 1 1", "  3 0", "4 1", "  2 0"] or drawn(found) == [
        "4 1",
        "  2 0",
        "lock 1 1",
        "  3 0",
    ]


def test_what_leads_out_of_a_circle_is_in_none() -> None:
    """Of the semaphore's two holders one waits for the semaphore itself, the other for one that runs."""
    found = forest(seen(wanted(1, (2, 3), (2,), maximum=2), wanted(2, (4,), (3,))))
    assert drawn(found) == ["4 2", "  3 1", "    lock 1 1", "      2 0"]


def test_a_circle_is_shown_once_with_what_hangs_behind_it() -> None:
    found = forest(seen(wanted(1, (1,), (2,)), wanted(2, (2,), (1, 3)), wanted(3, (3,), (4,))))
    assert drawn(found) == ["circle 4 seen", "  1 4 seen", "  2 4 seen", "    3 1", "      4 0"]
    assert found.nodes[0].longest_s == 4.0


def test_a_circle_is_a_deadlock_only_where_a_finding_names_all_of_it() -> None:
    locks = (wanted(1, (1,), (2,)), wanted(2, (2,), (1,)))
    for pids, about, said in (
        ((1, 2), 1, "deadlock"), ((1, 2, 3), 2, "deadlock"), ((1,), 1, "seen"), ((1, 2), 9, "seen")
    ):  # fmt: skip
        told = finding(lock=sem(about), pids=pids)
        assert forest(seen(*locks, findings=(told,))).nodes[0].circle == said
    other = finding("long-hold", lock=sem(1), pids=(1, 2))
    assert forest(seen(*locks, findings=(other,))).nodes[0].circle == "seen"


def test_one_that_waits_for_itself_is_a_circle_of_one() -> None:
    assert drawn(forest(seen(wanted(1, (1,), (1, 2))))) == ["circle 2 seen", "  1 2 seen", "    2 0"]


def test_two_circles_are_two() -> None:
    found = forest(seen(wanted(1, (1,), (2,)), wanted(2, (2,), (1,)), wanted(3, (3,), (4,)), wanted(4, (4,), (3,))))
    assert [word(node) for node in found.nodes] == ["circle", "3", "4", "circle", "1", "2"]


def test_a_holder_whose_thread_is_not_known_is_no_other_thread_of_its_process() -> None:
    unknown = replace(holder(1, 50.0), tid=None)
    locks = (replace(wanted(1, (), (2,)), holders=(unknown,)), wanted(2, (3,), (1,)))
    assert [node.id for node in forest(seen(*locks)).nodes if not node.depth] == [
        Thread(holder(3).process, 3), Thread(holder(1).process, None)
    ] or len([node for node in forest(seen(*locks)).nodes if not node.depth]) == 2  # fmt: skip
    single = picture(locks, [replace(worker(number), threads=1) for number in range(1, 4)])
    assert drawn(forest(single)) == ["3 2", "  1 1", "    2 0"]


def test_a_signal_and_what_is_free_block_nobody() -> None:
    assert forest(seen(wanted(1, (), (2,), signal=True), replace(wanted(2, (), (3,)), state="free"))) == Forest()


def test_whatever_is_in_the_picture_there_is_an_end() -> None:
    crowd = tuple(range(10, 10_010))
    many = forest(seen(wanted(1, (1,), crowd)))
    assert (many.nodes[0].blocks, len(many.nodes), many.left_out) == (10_000, MOST_NODES, 10_001 - MOST_NODES)
    chain = forest(seen(*(wanted(number, (number,), (number + 1,)) for number in range(1, 10_001))))
    assert (chain.nodes[0].blocks, max(node.depth for node in chain.nodes)) == (10_000, MOST_DEPTH)
    circle = forest(seen(*(wanted(number, (number,), ((number + 1) % 10_000,)) for number in range(10_000))))
    assert (circle.nodes[0].blocks, circle.nodes[0].circle, circle.roots) == (10_000, "seen", 1)


def test_the_same_thread_that_waits_twice_is_shown_once() -> None:
    found = forest(seen(wanted(1, (1,), (3,)), wanted(2, (2,), (3,))))
    assert [word(node) for node in found.nodes].count("3") == 1
    assert found.waiting == 1
