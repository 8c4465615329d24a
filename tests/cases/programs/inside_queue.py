# Sick: a queue is asked while its own mutex is held.
import queue


class Board:
    def __init__(self):
        self.jobs = queue.LifoQueue()

    def report(self):
        with self.jobs.mutex:
            return self.jobs.qsize()


board = Board()
board.report()
