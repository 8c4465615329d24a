# Sick: join() before get(): the child's feeder writes into a full pipe that only the parent reads.
import multiprocessing

mp = multiprocessing.get_context("fork")


def report(out):
    out.put(b"x" * 300000)


if __name__ == "__main__":
    results = mp.Queue()
    child = mp.Process(target=report, args=(results,))
    child.start()
    child.join()
    print(len(results.get()))
