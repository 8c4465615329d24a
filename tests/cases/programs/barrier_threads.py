# Sick: the same with threads of one process and a threading.Barrier.
import threading

line = threading.Barrier(3)


def run(lane):
    if lane:
        line.wait()


lanes = [threading.Thread(target=run, args=(lane,)) for lane in (0, 1, 2)]
for lane in lanes:
    lane.start()
for lane in lanes:
    lane.join()
