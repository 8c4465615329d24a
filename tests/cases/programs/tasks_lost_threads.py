# Sick: the same with a thread and a queue.Queue.
import queue
import threading


class Line:
    todo = queue.Queue()


def work():
    while True:
        number = Line.todo.get()
        1 // (number - 2)
        Line.todo.task_done()


threading.Thread(target=work, daemon=True).start()
for number in range(5):
    Line.todo.put(number)
Line.todo.join()
