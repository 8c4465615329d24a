"""The remedy of a finding: a sentence for each piece of advice, and the command to paste. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from semtrace.model import Advice, Remedy
from semtrace.text import clean

# The user's own semtrace: root may have another one, or none.
_AS_ROOT = 'sudo "$(command -v semtrace)"'

_NEW_PROGRAMS = (
    "New programs inherit no lock: pass it to each Process of multiprocessing's spawn as an argument. For workers of a "
    "server (uvicorn --workers) use a lock on a file."
)

ADVICE: Mapping[Advice, str] = {
    Advice.CLOSE_IN_CHILDREN: "Close the file in children that do not need it, or start them as new programs: Python "
    "does not pass open files on to those. Now: end that process, or have it close the file.",
    Advice.OPEN_AFTER_FORK: "Open the file in each worker, after the fork: then each has a lock of its own.",
    Advice.OPEN_ONCE: "Open the lock file once, and read or write nothing through it; or lock it with flock, which "
    "belongs to the open file.",
    Advice.SHARE_FOLDER: "Nothing, if only this container needs the lock. Else put the lock file on a volume that all "
    "of the containers mount, or use a lock of the database that they share.",
    Advice.REMOVE_LOCK_FILE: "Check that its owner has ended, then remove the file with the command below.",
    Advice.REMOVE_IF_ENDED_THERE: "Check on that host that its owner has ended, then remove the file with the command "
    "below.",
    Advice.PREVIEW_RELEASE: "Preview with the command below; add --yes to release the lock.",
    Advice.PREVIEW_RELEASE_TO_WAITERS: "Preview with the command below; add --yes to release the lock and let the "
    "first waiter continue.",
    Advice.DATA_NOT_REPAIRED: "This does not repair data that the dead process was writing.",
    Advice.MESSAGE_MAY_BE_TORN: "If it died in the middle of a message, all later reads from this queue return garbage "
    "or never return; then only a restart helps.",
    Advice.ASK_AS_ROOT: "Run the command below as root: root can see every process, and so whether one holds the lock.",
    Advice.RESTART_FOR_UNITS: "Restart the server to get all units back, unless another process releases the lost "
    "ones. semtrace release cannot help while others use it. Take units by `with`: then only a kill loses one.",
    Advice.SAME_ORDER: "Take the locks in the same order everywhere.",
    Advice.SAME_ORDER_MEETS: "Take them in the same order everywhere. Two threads that do this at once are stuck.",
    Advice.USE_SHARED_RLOCK: "Use a multiprocessing.RLock, or do not take the lock twice in one thread.",
    Advice.USE_SHARED_RLOCK_NO_GREENLETS: "Use a multiprocessing.RLock (not under gevent or eventlet: it takes all "
    "greenlets for one thread), or do not take the lock twice in one thread.",
    Advice.USE_THREADING_RLOCK: "Use a threading.RLock, or do not take the lock twice in one thread.",
    Advice.USE_THREADING_RLOCK_NO_GREENLETS: "Use a threading.RLock (not under gevent or eventlet: it takes all "
    "greenlets for one thread), or do not take the lock twice in one thread.",
    Advice.NO_RLOCK_FOR_GREENLETS: "Do not switch to another greenlet while holding it, and do not take it twice. "
    "An RLock does not help: it takes all greenlets of a worker for one thread, so it lets them in together.",
    Advice.NO_RLOCK_FOR_TASKS: "Use an asyncio.Lock, or do not await while holding it. An RLock does not help: it "
    "takes all tasks of an event loop for one thread, so it lets them in together.",
    Advice.NO_LOCK_IN_DEL: "Do not take a lock in __del__: it runs wherever the collector does, also while the thread "
    "has the lock and changes what it guards.",
    Advice.FINE_IF_RELEASED: "If another thread or process will release it, nothing is wrong. Otherwise:",
    Advice.RESTART_PROCESS: "Now: restart that process; this leaves no shared lock behind.",
    Advice.RESTART_PROCESSES: "Now: restart these processes; this leaves no shared lock behind.",
    Advice.RESTART_SERVER: "Now: restart the server, for a worker that is killed may leave its lock orphaned.",
    Advice.LOCK_INSTEAD_OF_SEMAPHORE: "If it is used as a lock, restart the server, and use a multiprocessing.Lock: "
    "then semtrace can see who holds it. If another process should release it, that one is late.",
    Advice.LOCKS_INSTEAD_OF_SEMAPHORES: "If they are used as locks, restart the server, and use "
    "multiprocessing.Lock: then semtrace can see who holds them.",
    Advice.RELEASE_IN_FINALLY: "Take the lock by `with`, so that an exception releases it, and never twice in one "
    "thread.",
    Advice.RELEASE_BY_ASYNC_WITH: "Take the lock by `async with`, so that an exception or a cancellation releases it. "
    "Take several locks in the same order in every task.",
    Advice.NOT_IN_HANDLER: "Do not use locks, queues, events or conditions in a signal handler: set a plain flag "
    "there, or use signal.set_wakeup_fd, and act on it in the main program.",
    Advice.READ_BEFORE_JOIN: "Read everything from the queue or pipe before join() or wait(); of a "
    "subprocess, communicate() does both.",
    Advice.READ_WHILE_WRITING: "Read what the other side sends while writing: in another thread, or with "
    "non-blocking writes.",
    Advice.RELEASE_BEFORE_JOIN: "Release the lock before join().",
    Advice.JOIN_ONE_WAY: "Let only one of them join the other.",
    Advice.NO_WAIT_AT_IMPORT: "Do not wait for threads or results while a module is imported: start the work in a "
    "function that is called after the import.",
    Advice.NEW_AFTER_FORK: "No thread of the parent may hold the lock while it forks: fork before starting threads, "
    "or make a new lock in each child with os.register_at_fork(after_in_child=...).",
    Advice.NO_WRITE_AT_FORK: "No thread of the parent may use this file while it forks: fork before starting threads, "
    "or open the file again in each child.",
    Advice.NO_LOG_AT_FORK: "No thread of the parent may log while it forks: fork before starting threads, or set up "
    "the logging handlers again in each child.",
    Advice.NO_IMPORT_AT_FORK: "No thread of the parent may import this module while it forks: import it before "
    "starting threads.",
    Advice.TASK_DONE_IN_FINALLY: "Call task_done() in a finally block.",
    Advice.WAIT_WITH_TIMEOUT: "Wait with a timeout, and then check whether the other processes are alive.",
    Advice.WAIT_FOR_THREADS_WITH_TIMEOUT: "Wait with a timeout, and then check whether the thread that should end the "
    "wait is alive and free to do it.",
    Advice.TAKE_UNITS_BY_WITH: "Take units by `with`, so that an exception gives them back.",
    Advice.NOT_WHILE_HOLDING: "Do not wait for what needs the lock while holding it: release it before.",
    Advice.START_AFTER_FORK: "Start threads and executors in the process that uses them, after the fork: in gunicorn's "
    "post_fork, or at their first use.",
    Advice.OWN_POOL: "Make the Pool in the process that uses it, after the fork.",
    Advice.RESULTS_BEFORE_TERMINATE: "Take all results of a Pool before terminate() and before the end of its `with`.",
    Advice.SEE_POOLS_EXCEPTION: "Look for an exception in _handle_results in the program's output. No callback may "
    "raise. Return what can be unpickled, and raise exceptions whose arguments are those of their __init__.",
    Advice.NO_WAIT_IN_CALLBACK: "Do not wait for a result of the Pool in a callback: it runs in the thread that passes "
    "results on. Hand the work to another thread.",
    Advice.SEE_WORKERS_OUTPUT: "Look in the program's output for the error that ends them. First suspect code that "
    "runs at their start, such as the initializer of a Pool. Correct it, and restart the program.",
    Advice.CHECK_RESULTS: "Wait for results with a timeout, or use concurrent.futures.ProcessPoolExecutor, which "
    "raises BrokenProcessPool when a worker dies.",
    Advice.SEE_STACKS: "See what all threads are doing with the command below.",
    Advice.CANNOT_BE_RELEASED: "They wait until the server is restarted: semtrace release refuses, as nothing proves "
    "that nobody holds the lock.",
    Advice.MASTER_FORKS_WITHOUT: "No thread of the master may hold the lock while it forks.",
    Advice.PARENT_FORKS_WITHOUT: "No thread of a process may hold the lock while the process forks.",
    Advice.NEW_LOCK_AFTER_FORK: "Or make a new lock in each new process: os.register_at_fork(after_in_child=...).",
    Advice.RESTART_TO_CLEAR: "Restart the server to clear this.",
    Advice.RELEASE_ONLY_AFTER_ACQUIRE: "After that, two threads may be inside at once. Use `with`; where acquire has "
    "a timeout, release only if it returned True. If processes hand it on by intent, use a multiprocessing.Semaphore.",
    Advice.SHARE_ACROSS_WORKERS: "If it guards what workers share (a file, a database row, shared memory): use a "
    "multiprocessing.Lock(), made when the module is imported, and gunicorn --preload.",
    Advice.SHARE_BY_FORK: "If it guards what workers share (a file, a database row, shared memory): use a "
    "multiprocessing.Lock(), made before the workers are forked. " + _NEW_PROGRAMS,
    Advice.NOT_IN_EVENT_LOOP: "To wait for it would stop the event loop, so take it in a thread: "
    "asyncio.to_thread(lock.acquire).",
    Advice.FINE_FOR_ONE_PROCESS: "If it guards the memory of one process, nothing is wrong.",
    Advice.IGNORE_LOCK: "In that case, silence this with --ignore {lock}, or list the name under `ignore` in "
    "config.toml.",
    Advice.MAKE_BEFORE_FORK: "Make it once, before the workers are forked: at the top of a module, and start gunicorn "
    "with --preload. Do not make it in post_fork or at the first request.",
    Advice.MAKE_BEFORE_FORK_TO_SHARE: "To share it, make it once, before the workers are forked: at the top of a "
    "module, and start gunicorn with --preload.",
    Advice.MAKE_IN_PARENT: "To share it, make it once, before the workers are forked. " + _NEW_PROGRAMS,
    Advice.FINE_FOR_CHILDREN: "If it is for processes that each worker starts itself, nothing is wrong.",
    Advice.CONTINUE_STOPPED: "A debugger, Ctrl-Z or kill -STOP stopped it. If nobody is working on it, continue it.",
    Advice.AVOID_KILL: "A holder that is killed may leave the lock orphaned: do not make blocking calls while holding "
    "it, or raise --timeout.",
    Advice.HOLD_SHORTER: "Do less work while holding the lock. See what that thread is doing.",
    Advice.SET_TIMEOUT: "Give acquire a timeout where a request can fail instead. See what all threads are doing.",
    Advice.LESS_CONTENTION: "The lock works. If that is too slow, do less work while holding it, or use several locks.",
    Advice.WATCH_LONGER: "All this time it was one and the same hold: watch for longer to see whether it ends.",
    Advice.PREVIEW_CLEAN: "A process that was killed left them. Preview with the command below; add --yes to remove "
    "them.",
    Advice.PREVIEW_CLEAN_BLOCKS: "The process that made them was killed, or did not call unlink(). A block may be data "
    "that a program left on purpose, for its next start. Preview with the command below; add --yes to remove them.",
    Advice.CLEAN_IN_A_MINUTE: "A process may be about to open them, so semtrace clean leaves them alone until they are "
    "a minute old. Then preview with the command below; add --yes to remove them.",
    Advice.CLEAN_LISTS: "The command below lists the semaphores and SharedMemory blocks that nobody uses.",
    Advice.CLEAN_THERE: "This is the /dev/shm of the server's own mount namespace, as in a container: run the command "
    "there.",
    Advice.MAKE_ROOM: "Remove what nobody needs there (ls -l /dev/shm), or make it larger: docker run --shm-size, "
    "mount -o remount,size=.",
    Advice.MAKE_LARGER: "Or make /dev/shm larger: docker run --shm-size, mount -o remount,size=.",
}


def advice_text(remedy: Remedy, lock: str = "") -> str:
    """Return what to do, as prose in one line. `lock` is the name of the lock that it is about."""
    shown = shlex.quote(clean(lock))
    return " ".join(ADVICE[each].replace("{lock}", shown) for each in remedy.advice)


def command_text(remedy: Remedy) -> str | None:
    """Return the command as a shell takes it."""
    if remedy.command is None:
        return None
    if remedy.as_root:
        return f"{_AS_ROOT} {shlex.join(remedy.command[1:])}"
    return shlex.join(remedy.command)
