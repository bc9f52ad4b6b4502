# http_server.py - an inference server whose request threads all normalise at once.
# SPDX-License-Identifier: MIT
"""A batch of token vectors is POSTed as raw float32, and comes back normalised.

Each request has a thread of its own (ThreadingHTTPServer), which calls one prepared
layer. With num_threads=1 it stays on that thread: requests are what runs in parallel,
and 16 of them are 16 threads, not 16 teams. Run as it is, the program serves itself:
it starts the server, sends requests from 16 clients at a time, and checks every answer.
With a port as argument it serves until it is stopped:

    python http_server.py 8000 &
    python -c "import sys, numpy; sys.stdout.buffer.write(
        numpy.arange(768, dtype='<f4').tobytes())" |
      curl --data-binary @- localhost:8000/layer_norm --output normed.bin
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

import fastnorm

WIDTH = 768
MOST_BYTES = 64 << 20

rng = np.random.default_rng(0)
norm = fastnorm.LayerNorm(WIDTH, num_threads=1)
norm.load_state_dict({"weight": rng.normal(1, 0.1, WIDTH), "bias": np.zeros(WIDTH)})


class Handler(BaseHTTPRequestHandler):
    """POST /layer_norm: [tokens, WIDTH] of little-endian float32 in, the same out."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for headers and body

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > MOST_BYTES:
            self.close_connection = True  # what was sent is not read
            self.answer(413, b"too long")
            return
        # A buffer that may be written: the norm works in place, so that a request
        # needs no memory but its own.
        body = bytearray(length)
        view, read = memoryview(body), 0
        while read < length:
            count = self.rfile.readinto(view[read:])
            if not count:
                self.close_connection = True
                return
            read += count
        if self.path != "/layer_norm":
            self.answer(404, b"POST /layer_norm is all there is")
        elif length % (4 * WIDTH):
            self.answer(400, f"the body is not rows of {WIDTH} float32".encode())
        else:
            tokens = np.frombuffer(body, "<f4").reshape(-1, WIDTH)
            norm(tokens, out=tokens)
            self.answer(200, body)

    def answer(self, status: int, body: bytes | bytearray) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing for each request."""


def ask(port: int, body: bytes) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/layer_norm", body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve_itself() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    requests = [
        rng.standard_normal((n % 40 + 1, WIDTH), np.float32) for n in range(400)
    ]
    right = [norm(tokens).tobytes() for tokens in requests]
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda x: ask(port, x.tobytes()), requests))
    same = sum(a == (200, b) for a, b in zip(answers, right, strict=True))
    print(same, "of", len(requests), "answers have the bits of a call alone")
    print(*ask(port, b"1234567"))
    server.shutdown()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    else:
        serve_itself()

# Prints:
# 400 of 400 answers have the bits of a call alone
# 400 b'the body is not rows of 768 float32'
