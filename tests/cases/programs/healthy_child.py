# Healthy: a program waits for another one, in ways in which that can go on.
import os
import signal
import subprocess
import sys
import threading
import time

WRITES = "import sys, time; sys.stdout.write('x' * 300000); sys.stdout.flush(); time.sleep(600)"


def popen(code, **more):
    return subprocess.Popen([sys.executable, "-c", code], **more)


def computes():
    popen("while True: pass").wait()


def sleeps():
    popen("import time; time.sleep(600)").wait()


def drained():
    child = popen(WRITES, stdout=subprocess.PIPE)
    threading.Thread(target=child.stdout.read).start()
    child.wait()


def communicates():
    popen(WRITES, stdout=subprocess.PIPE, stderr=subprocess.PIPE).communicate()


def timed():
    child = popen(WRITES, stdout=subprocess.PIPE)
    while True:
        try:
            child.wait(1)
        except subprocess.TimeoutExpired:
            continue


def shared():
    """The pipe that is full has another reader, who will come back to it."""
    child = popen(WRITES, stdout=subprocess.PIPE)
    subprocess.Popen(["sleep", "600"], stdin=child.stdout)
    child.wait()


def signalled():
    """The child has a handler that empties the pipe."""
    code = "import signal; signal.signal(signal.SIGUSR1, lambda *_: None); print('x' * 300000)"
    popen(code, stdout=subprocess.PIPE).wait()


def stopped_later():
    """A signal makes the parent end the input of its child."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: child.stdin.close())
    child.wait()


def any_child():
    subprocess.Popen(["sleep", "600"])
    os.wait()


def helped():
    """The child has a thread that goes on."""
    code = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); print('x' * 300000)"
    popen(code, stdout=subprocess.PIPE).wait()


print("ready", flush=True)
globals()[sys.argv[1]]()
time.sleep(600)
