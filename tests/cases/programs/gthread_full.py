# Sick after two GET /wait: gunicorn -w 1 -k gthread --threads 2 -t 0; who would set the Event gets no thread.
import threading

approved = threading.Event()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        approved.wait()  # waits
    elif environ["PATH_INFO"] == "/approve":
        approved.set()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
