# Sick: one of four parties of a Barrier has ended before it.
import multiprocessing

mp = multiprocessing.get_context("fork")
line = mp.Barrier(4)


def run(lane):
    if lane:
        line.wait()  # waits


if __name__ == "__main__":
    for lane in (1, 0, 2):
        mp.Process(target=run, args=(lane,)).start()
    line.wait()
