"""A Flask application with locks where such applications keep them. Needs Flask."""

import multiprocessing
import threading
import time

import flask

db_lock = multiprocessing.Lock()
jobs = multiprocessing.Queue(3)
private = threading.Lock()
app = flask.Flask(__name__)
app.config["LOCK"] = multiprocessing.RLock()
app.extensions["cache"] = {"lock": multiprocessing.Semaphore(2)}


class Repository:
    def __init__(self):
        self.lock = multiprocessing.Lock()


app.repository = Repository()


def routes(app):
    guard = multiprocessing.Lock()

    @app.route("/")
    def index():
        with guard:
            return "hello"

    @app.route("/private")
    def hold_private():
        with private:
            time.sleep(600)
        return "late"


routes(app)


def create_app():
    made = flask.Flask("made")
    made.config["LOCK"] = multiprocessing.Lock()
    routes(made)
    return made
