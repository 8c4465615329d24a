# Healthy: gunicorn -w 2 --threads 8; in each worker some requests wait for news (long poll), and threads are left.
import os
import threading

news = threading.Condition()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/poll":
        with news:
            news.wait()
    else:
        with news:
            news.notify_all()
    start_response("200 OK", [("Content-Length", "6"), ("Connection", "close")])
    return [b"%06d" % os.getpid()]
