# Sick: a worker ends between get() and task_done(), so join() never returns.
import multiprocessing

mp = multiprocessing.get_context("fork")


def work(tasks):
    while True:
        number = tasks.get()
        1 // (number - 2)
        tasks.task_done()


if __name__ == "__main__":
    tasks = mp.JoinableQueue()
    for _ in range(2):
        mp.Process(target=work, args=(tasks,), daemon=True).start()
    for number in range(5):
        tasks.put(number)
    tasks.join()
