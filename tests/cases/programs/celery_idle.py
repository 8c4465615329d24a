# Healthy: a celery worker without work.
from celery import Celery

app = Celery("jobs", broker="memory://")


@app.task
def work(number):
    return number
