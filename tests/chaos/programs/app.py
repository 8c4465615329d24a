"""A WSGI application whose requests take a lock and write it into the journal that CHAOS_CONFIG names.

Loaded by `gunicorn --preload`: master and workers share the locks.
"""

import os
import random

from journal import READY, Journal
from workers import DEFAULTS, choose, context_of, make_lock, read_config, units_of, use_nested

config = read_config(DEFAULTS, os.environ["CHAOS_CONFIG"])
journal = Journal(config["journal"])
locks = []
for number, made in enumerate(config["kinds"]):
    locks.append(make_lock(context_of(config), made, config["units"]))
    journal.register(number, locks[-1], made, units_of(made, config))
journal.words[READY] = 1


def app(environ, start_response):
    numbers = random.Random()
    use_nested(journal, choose(locks, numbers, config), locks, numbers, config)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
