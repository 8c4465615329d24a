"""The tree of blocked threads, from hand-built snapshots."""

from __future__ import annotations

from dataclasses import replace

from semtrace.model import Holder, Lock, Process, ProcessId, SemId, Server, Snapshot, Waiter
from semtrace.waits.build import wait_graph
from semtrace.waits.tree import MOST_NODES, Node, walk
from semtrace.waits.tree import forest as forest_of

SERVER = Server("gunicorn", ProcessId(10, 1), "gunicorn", 0.0, "alice")


def pid(number: int) -> ProcessId:
    return ProcessId(number, 1)


def lock(name: str, holders: tuple[int, ...], *waiters: int, **more: object) -> Lock:
    """Waiters in the order of their arrival."""
    plain = Lock(
        SemId(0, 27, sum(map(ord, name))),
        "Lock",
        "contended",
        0,
        1,
        name,
        holders=tuple(Holder(pid(each), each, 1, 9.0) for each in holders),
        waiters=tuple(Waiter(pid(each), each, 5.0 - place) for place, each in enumerate(waiters)),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def snapshot(*locks: Lock) -> Snapshot:
    processes = tuple(Process(pid(each), 10, "worker", "sleeping", 0, 1, 0.0) for each in range(1, 10))
    return Snapshot(SERVER, 1e9, 100.0, processes, locks)


def forest(seen: Snapshot) -> tuple[Node, ...]:
    return forest_of(wait_graph(seen))


def said(nodes: tuple[Node, ...]) -> list[str]:
    return [
        "  " * depth
        + (str(node.wait.pid) if node.wait else f"{node.target.name} {node.blocks}")
        + (" again" if node.again else "")
        + (" cycle" if node.cycle else "")
        for node, depth in walk(nodes)
    ]


def test_nobody_waits_and_there_is_no_tree() -> None:
    assert forest(snapshot(lock("a", (1,)))) == ()


def test_waiters_lie_below_and_what_they_hold_below_them() -> None:
    trees = forest(snapshot(lock("b", (2,), 3, 4), lock("a", (1,), 2)))
    assert said(trees) == ["a 3", "  2", "    b 2", "      3", "      4"]
    assert trees[0].longest_s == 5.0


def test_root_that_blocks_most_comes_first_then_the_longest_wait() -> None:
    patient = replace(lock("c", (5,), 6), waiters=(Waiter(pid(6), 6, 60.0),))
    trees = forest(snapshot(lock("a", (1,), 2), lock("b", (3,), 4, 7), patient))
    assert [node.target.name for node in trees] == ["b", "c", "a"]


def test_orphaned_lock_and_lock_of_an_unknown_holder_are_roots() -> None:
    trees = forest(snapshot(lock("a", (), 1, state="orphaned"), lock("b", (), 2, 3, state="unknown")))
    assert said(trees) == ["b 2", "  2", "  3", "a 1", "  1"]


def test_cycle_is_shown_once_and_marked_with_what_it_blocks() -> None:
    trees = forest(snapshot(lock("a", (1,), 2, 3), lock("b", (2,), 1)))
    assert said(trees) == ["a 3 cycle", "  2", "    b 1", "      1", "        a 0 again cycle", "  3"]


def test_one_that_waits_for_itself_is_a_cycle() -> None:
    assert said(forest(snapshot(lock("a", (1,), 1)))) == ["a 1 cycle", "  1", "    a 0 again cycle"]


def test_a_tail_before_a_cycle_is_found_from_the_cycle() -> None:
    trees = forest(snapshot(lock("a", (1,), 2), lock("b", (2,), 1, 3), lock("c", (3,), 4, 5, 6)))
    assert len(trees) == 1
    assert {line.split()[0] for line in said(trees)} >= {"a", "b", "c"}
    assert trees[0].cycle


def test_semaphore_with_one_holder_able_to_continue_is_a_root() -> None:
    trees = forest(snapshot(lock("pool", (1, 2), 3, maximum=2), lock("a", (4,), 2)))
    assert sorted(node.target.name for node in trees) == ["a", "pool"]


def test_a_diamond_is_drawn_once() -> None:
    trees = forest(snapshot(lock("a", (1,), 2, 3), lock("pool", (2, 3), 4, maximum=2)))
    assert said(trees) == ["a 3", "  2", "    pool 1", "      4", "  3", "    pool 0 again"]


def test_unknown_thread_of_a_holder_counts_as_its_only_one() -> None:
    held = replace(lock("b", (), 3), holders=(Holder(pid(2), None, 1),))
    assert said(forest(snapshot(held, lock("a", (1,), 2))))[0] == "a 2"


def row(count: int, ring: bool) -> list[Lock]:
    """Each held by the thread that waits for the one before."""
    locks = [lock("x", (i,), i + 1) for i in range(count)]
    locks = [replace(each, id=SemId(0, 27, place)) for place, each in enumerate(locks)]
    if ring:
        locks[-1] = replace(locks[-1], waiters=(Waiter(pid(0), 0, 1.0),))
    return locks


def test_long_chains_and_rings_are_cut_and_done_soon() -> None:
    """A hostile snapshot, larger than what is shown; anything quadratic would take long."""
    processes = tuple(Process(pid(each), 10, "worker", "sleeping", 0, 1, 0.0) for each in range(3001))
    for ring in (False, True):
        seen = replace(snapshot(*row(3000, ring)), processes=processes)
        assert sum(1 for _ in walk(forest(seen))) <= MOST_NODES + 2


def test_a_crowd_is_cut_but_counted_whole() -> None:
    crowd = lock("a", (1,), *range(2, 3 * MOST_NODES))
    (tree,) = forest(snapshot(crowd))
    assert tree.blocks == 3 * MOST_NODES - 2
    assert sum(1 for _ in walk((tree,))) <= MOST_NODES + 2


def test_idle_threads_are_left_out_and_signals_are_roots() -> None:
    queue = replace(lock("q", (3,), 1), waiters=(Waiter(pid(1), 1, 5.0, idle=True),))
    assert said(forest(snapshot(queue, lock("a", (), 2, signal=True)))) == ["a 1", "  2"]


def test_a_semaphore_that_another_may_release_is_no_cycle() -> None:
    assert not forest(snapshot(lock("pool", (1, 2), 1, maximum=2), lock("a", (3,), 2)))[0].cycle
