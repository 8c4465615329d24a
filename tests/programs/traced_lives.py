"""Lives of a process with traced locks, one for each name: `traced_lives.py NAME`. Prints "fine" at its end."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import semtrace
from semtrace.wire.event import EventType, decode_events
from semtrace.wire.place import (
    CONTROL,
    ControlWord,
    SERVER_VARIABLE,
    fifo_name,
    parse_state_name,
    process_name,
    server_directory,
    shm,
    user_directory,
)
from semtrace.wire.statefile import decode_state
from semtrace.instrument import bootstrap, patch, places


def mine(pid=None):
    """The state file of a process, None if there is none."""
    base = shm()
    for directory, _, names in os.walk(base):
        for name in names:
            process = parse_state_name(name)
            if process is not None and process.pid == (pid or os.getpid()):
                with open(os.path.join(directory, name), "rb") as file:
                    return decode_state(file.read())
    return None


def held(state, name):
    return next(book.count for book in state.locks if book.name == name)


def in_child(function):
    """Run it in a plain fork, and let that end as programs do."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        function()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return pid


def fork_before_the_first_lock():
    semtrace.install()

    def child():
        lock = multiprocessing.Lock()
        with lock:
            assert mine().locks[0].count == 1
        assert mine().parent_pid == os.getppid()

    pid = in_child(child)
    assert mine(pid) is None


def fork_after_the_first_lock():
    lock = semtrace.Lock("a")
    for _ in range(3):
        with lock:
            pass
    before = mine()

    def child():
        assert mine() is None
        with lock:
            assert (held(mine(), "a"), held(mine(os.getppid()), "a")) == (1, 0)
            assert mine().locks[0].acquired == 1

    pid = in_child(child)
    assert mine(pid) is None
    assert mine() == before


def fork_while_held():
    lock = semtrace.Lock("a")
    lock.acquire()

    def child():
        assert not lock.acquire(False)
        assert held(mine(), "a") == 0

    in_child(child)
    assert held(mine(), "a") == 1
    lock.release()


def a_child_releases_what_its_parent_acquired():
    lock = semtrace.Lock("a")
    lock.acquire()

    def child():
        lock.release()
        assert held(mine(), "a") == -1

    in_child(child)
    assert lock.acquire(False)
    assert held(mine(), "a") == 1
    lock.release()


def fork_with_other_threads_at_it():
    lock, stop = semtrace.Lock("a"), threading.Event()

    def work():
        while not stop.is_set():
            with lock:
                pass

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()

    def child():
        other = semtrace.Lock("b")
        with other:
            assert held(mine(), "b") == 1

    for _ in range(20):
        in_child(child)
    stop.set()
    for thread in threads:
        thread.join()


def use(lock, queue):
    with lock:
        state = mine()
        queue.put((held(state, "a"), state.process.pid != os.getppid(), patch.is_installed()))


def children_of_multiprocessing(method):
    context = multiprocessing.get_context(method)
    lock = semtrace.Lock("a", ctx=context)
    queue = context.Queue()
    process = context.Process(target=use, args=(lock, queue))
    process.start()
    assert queue.get(timeout=20) == (1, True, False)
    process.join()
    assert (process.exitcode, mine(process.pid)) == (0, None)
    semtrace.install()
    queue = context.Queue()
    process = context.Process(target=use, args=(lock, queue))
    process.start()
    assert queue.get(timeout=20) == (1, True, True)
    process.join()
    assert (process.exitcode, mine(process.pid)) == (0, None)
    assert "_semtrace" in vars(queue._rlock)


def fork_child():
    children_of_multiprocessing("fork")


def spawn_child():
    children_of_multiprocessing("spawn")


def forkserver_child():
    children_of_multiprocessing("forkserver")


def use_own(pipe):
    """In a child that was given no lock at all."""
    lock = multiprocessing.Lock()
    with lock:
        state = mine()
        pipe.send((patch.is_installed(), state and state.locks[0].count, os.environ[SERVER_VARIABLE]))


def children_make_locks(method):
    """A child and a grandchild; what starts them (the fork server) begins before the tracing does."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=is_plain)
    process.start()
    process.join()
    semtrace.install()
    for target in (use_own, start_another):
        process = context.Process(target=target, args=(theirs,))
        process.start()
        assert ours.poll(20)
        assert ours.recv() == (True, 1, os.environ[SERVER_VARIABLE])
        process.join()
        assert (process.exitcode, mine(process.pid)) == (0, None)
    semtrace.uninstall()
    process = context.Process(target=is_plain)
    process.start()
    process.join()
    assert process.exitcode == 0


def start_another(pipe):
    process = multiprocessing.Process(target=use_own, args=(pipe,))
    process.start()
    process.join()
    assert process.exitcode == 0


def is_plain():
    assert not patch.is_installed()


def spawned_children_make_locks():
    children_make_locks("spawn")


def children_of_an_older_forkserver_make_locks():
    children_make_locks("forkserver")


def a_forkserver_of_a_traced_environment():
    os.environ |= bootstrap.environment(os.environ)
    subprocess.run([sys.executable, __file__, "makes_a_lock_by_the_default"], env=elsewhere(), check=True)


def makes_a_lock_by_the_default():
    assert patch.is_installed()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=use_own, args=(theirs,))
    process.start()
    assert ours.poll(20)
    assert ours.recv() == (True, 1, os.environ[SERVER_VARIABLE])
    process.join()
    assert process.exitcode == 0


def pool_and_queue_and_manager():
    semtrace.install()
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
        pool.close()
        pool.join()
    queue = multiprocessing.JoinableQueue(2)
    for number in range(2):
        queue.put(number)
    assert [queue.get(), queue.get()] == [0, 1]
    queue.task_done()
    queue.task_done()
    queue.join()
    with multiprocessing.Manager() as manager, manager.Lock():
        pass


def exec_goes_on_under_the_same_pid():
    multiprocessing.set_start_method("fork")  # else Python itself speaks of a leaked semaphore (3.14 and later)
    lock = semtrace.Lock("a")
    lock.acquire()
    print("fine", flush=True)
    os.execv(sys.executable, [sys.executable, __file__, "after_exec"])


def after_exec():
    assert held(mine(), "a") == 1  # of before the exec: nobody took it away
    lock = semtrace.Lock("b")
    assert [book.name for book in mine().locks] == ["b"]
    with lock:
        pass


def a_killed_one_leaves_its_file():
    lock = semtrace.Lock("a")
    pid = os.fork()
    if pid == 0:
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert held(mine(pid), "a") == 1
    assert not lock.acquire(False)


def one_that_ends_with_a_lock_leaves_its_file():
    sys.lock = semtrace.Lock("a")  # as a module's: it outlives the functions
    pid = in_child(sys.lock.acquire)
    assert held(mine(pid), "a") == 1


def the_next_start_sweeps():
    done = subprocess.run([sys.executable, __file__, "a_killed_one_leaves_its_file"], env=elsewhere())
    assert done.returncode == 0
    user = user_directory(os.geteuid())
    assert len(os.listdir(user)) == 1
    semtrace.Lock("b")
    assert os.listdir(user) == [process_name(places.this_process())]


def elsewhere():
    """An environment of a server of its own."""
    return {**os.environ, SERVER_VARIABLE: ""}


def an_exec_ed_child_joins():
    semtrace.install()
    lock = multiprocessing.Lock()
    subprocess.run([sys.executable, __file__, "is_in_the_same_server"], check=True)
    assert len(os.listdir(user_directory(os.geteuid()))) == 1
    del lock


def is_in_the_same_server():
    semtrace.Lock("mine")
    assert mine().process != patch.prepare().root
    assert patch.prepare().root.pid == os.getppid()


def locks_at_interpreter_shutdown():
    lock, other = semtrace.Lock("a"), semtrace.Lock("b")  # a daemon thread may end inside its lock, as with bare ones

    class AtTheEnd:
        def __del__(self):
            with lock:
                pass

    sys.at_the_end = AtTheEnd()

    def work():
        while True:
            with other:
                pass

    threading.Thread(target=work, daemon=True).start()


def application_closes_all_descriptors():
    """As daemons do; what it opens then gets the same numbers, and must get none of our bytes."""
    multiprocessing.set_start_method("fork")  # else it closes a pipe that Python itself needs (3.14 and later)
    lock = semtrace.Lock("a")
    with viewer():
        with lock:
            pass
        os.closerange(3, 4096)
        files = [open(f"{shm()}/file-{number}", "w+b") for number in range(50)]
        for _ in range(100):
            with lock:
                pass

        def child():
            with lock:
                pass

        in_child(child)
        for file in files:
            assert file.read() == b""
            assert os.fstat(file.fileno()).st_size == 0
            os.unlink(file.name)


class viewer:  # noqa: N801
    """A FIFO that is read by nobody in particular."""

    def __enter__(self):
        root = patch.prepare().root
        self.directory = server_directory(os.geteuid(), root)
        self.path = f"{self.directory}/{fifo_name(places.this_process())}"
        os.mkfifo(self.path, 0o600)
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        with open(f"{self.directory}/{CONTROL}", "r+b") as file:
            file.seek(ControlWord.GENERATION * 8)
            file.write((12345).to_bytes(8, "little"))
        return self

    def __exit__(self, *_):
        if os.path.exists(self.path):  # a forked child also leaves here
            os.unlink(self.path)


def fork_is_told():
    lock = semtrace.Lock("a")
    with viewer() as watching, lock:
        pass
    pid = in_child(lambda: None)
    data = os.read(watching.descriptor, 1 << 16)
    records, malformed, _ = decode_events(data)
    assert malformed == 0
    forked = [record for record in records if record.type == EventType.FORKED]
    assert [(record.process.pid, record.value) for record in forked] == [(pid, os.getpid())]


def workers_change_their_user():
    lock = semtrace.Lock("a")
    os.chmod(shm(), 0o777)

    def child():
        os.setuid(65534)
        with lock:
            assert held(mine(), "a") == 1
        state = mine()
        assert os.stat(server_directory(65534, patch.prepare().root)).st_uid == 65534
        assert state.active

    in_child(child)


def memory_is_full():
    """In a mount namespace with a /dev/shm of one page."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    bare = multiprocessing.Lock()
    place = shm().encode()
    assert libc.mount(b"tmpfs", place, b"tmpfs", 0, b"size=16k") == 0
    lock = semtrace.Lock("a")
    with lock, bare:
        assert not lock.acquire(False)
    assert not patch.prepare()


def refused(directory):
    lock = semtrace.Lock("a")
    with lock:
        assert not lock.acquire(False)
    assert patch.prepare() is None
    assert os.path.basename(directory) in os.listdir(os.path.dirname(directory))


def another_users_directory():
    directory = user_directory(os.geteuid())
    os.mkdir(directory, 0o700)
    os.chown(directory, 65534, 65534)
    refused(directory)
    assert os.listdir(directory) == []


def an_open_directory():
    directory = user_directory(os.geteuid())
    os.mkdir(directory)
    os.chmod(directory, 0o777)
    refused(directory)


def a_symbolic_link():
    directory = user_directory(os.geteuid())
    os.mkdir(f"{shm()}/elsewhere", 0o700)
    os.symlink(f"{shm()}/elsewhere", directory)
    refused(directory)
    assert os.listdir(f"{shm()}/elsewhere") == []


def hostile_fifos():
    """A file, a symbolic link and another user's FIFO in the place of a viewer's."""
    lock = semtrace.Lock("a")
    directory = server_directory(os.geteuid(), patch.prepare().root)
    victim = f"{shm()}/victim"
    open(victim, "w").close()
    os.symlink(victim, f"{directory}/1-1-0.fifo")
    open(f"{directory}/1-1-1.fifo", "w").close()
    os.mkfifo(f"{directory}/1-1-2.fifo", 0o666)
    os.chown(f"{directory}/1-1-2.fifo", 65534, 65534)
    theirs = os.open(f"{directory}/1-1-2.fifo", os.O_RDONLY | os.O_NONBLOCK)
    with viewer(), lock:
        pass
    assert os.path.getsize(victim) == os.path.getsize(f"{directory}/1-1-1.fifo") == 0
    assert os.read(theirs, 100) == b""
    assert mine().active
    for number in range(3):
        os.unlink(f"{directory}/1-1-{number}.fifo")
    os.unlink(victim)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("fine", flush=True)
