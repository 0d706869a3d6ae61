"""Posting to a server that is only just starting."""

import contextlib
import time
from http.client import HTTPConnection

from benchmarks.knowledge import Questions, entries
from benchmarks.messages import Shape, Target, build
from benchmarks.signing import decode_secret
from benchmarks.systems import Server, SetupError

RETRY_SECONDS = 0.01


def post_until_acknowledged(server: Server, deadline: float) -> None:
    """Post one message to ``server`` again and again until it says 200; ``deadline`` is monotonic time."""
    target = Target(server.path, decode_secret(server.workshop.secret))
    shape = Shape(f"first-{time.time_ns():x}")
    # A question word for word: this case is about starting, not about matching.
    request = build(target, shape, Questions(entries()), 0)
    head, _, body = request.partition(b"\r\n\r\n")
    pairs = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    headers = {name.decode(): value.decode() for name, value in pairs}
    while time.monotonic() < deadline:
        server.check_alive()
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("POST", server.path, body, headers)
            if connection.getresponse().status == 200:
                return
        time.sleep(RETRY_SECONDS)
    raise SetupError(f"{server.name} acknowledged nothing in time:\n{server.tail()}")
