# Sick (bpo-6721 and many questions): an executor is used in the master before the fork. Its threads stay there.
from concurrent.futures import ThreadPoolExecutor

executor = ThreadPoolExecutor(1)
executor.submit(str, "warm").result()


def app(environ, start_response):
    executor.submit(str, "work").result()  # waits
    start_response("200 OK", [])
    return [b""]
