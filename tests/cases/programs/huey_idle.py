# Healthy: huey's consumer with processes and without work.
import os

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["HUEY"])


@huey.task()
def work(number):
    return number
