# Sick after GET /bad: the same in a pre-forked server of the standard library.
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler

totals_lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return "client"

    def do_GET(self):
        totals_lock.acquire()  # waits
        if self.path == "/bad":
            raise ValueError("bad input")
        totals_lock.release()
        self.send_response(200)
        self.end_headers()


class Server(socketserver.UnixStreamServer):
    def handle_error(self, *_):
        pass


server = Server(sys.argv[1], Handler)
for _ in range(2):
    if os.fork() == 0:
        server.serve_forever()
os.wait()
