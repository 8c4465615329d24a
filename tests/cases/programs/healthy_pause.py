# Healthy: the main program pauses until a signal; its workers wait for jobs, and a thread for a program that runs.
import multiprocessing
import signal
import subprocess
import threading

mp = multiprocessing.get_context("fork")


def work(jobs):
    while jobs.get():
        pass


if __name__ == "__main__":
    jobs = mp.Queue()
    for _ in range(2):
        mp.Process(target=work, args=(jobs,)).start()
    threading.Thread(target=subprocess.call, args=(["sleep", "600"],), daemon=True).start()
    print("ready", flush=True)
    signal.pause()
