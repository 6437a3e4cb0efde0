"""A small HTTP server beside a running pipeline: /metrics, /healthz, /state?device=.

It has no authentication: it binds to what it is told, which should be this machine, and something
that signs users in stands in front of it where others may look. Questions about a device are
answered by the loop that owns the pipelines, between two of its steps: nothing here touches them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ..engine.errors import StreamgaugeError
from .backoff import Refusal

ANSWER_SECONDS_MAX = 2.0  # how long a question about a device waits for the loop
CONNECTION_SECONDS_MAX = 5.0  # without a word from the other side
CONNECTIONS_MAX = 32
QUESTIONS_MAX = 64
LOOP_SECONDS_MAX = 30.0  # without a turn of the loop, until that is no health
REFUSED_SECONDS_MAX = 60.0  # of one step of a shard, until that is no health
DEVICE_BYTES_MAX = 4096  # of the request line's query

Rows = list[dict[str, Any]]


class Health(NamedTuple):
    """Whether there is progress, and if not, why."""

    good: bool
    reasons: list[str]


def health(turned: float, wall: float, refused: Mapping[str, Refusal], now: float) -> Health:
    """Judge the progress of a run.

    Args:
        turned: when the loop last turned. wall: the time, both in seconds since 1970.
        refused: steps refused at the last try, by shard. now: seconds on the clock of the host.
    """
    reasons = []
    if wall - turned > LOOP_SECONDS_MAX:
        reasons.append(f"the loop has not turned for {wall - turned:.0f} s")
    for shard, (step, since, cause) in sorted(refused.items()):
        if now - since > REFUSED_SECONDS_MAX:
            reasons.append(
                f"shard {shard}: {step} has been refused for {now - since:.0f} s: {cause}"
            )
    return Health(not reasons, reasons)


class Question:
    """A question about a device, which somebody waits for."""

    def __init__(self, device: str) -> None:
        """Ask about a device."""
        self.device = device
        self._answered = threading.Event()
        self._rows: Rows = []

    def reply(self, rows: Rows) -> None:
        """Answer it."""
        self._rows = rows
        self._answered.set()

    def wait(self, seconds: float) -> Rows | None:
        """The answer, None where none came in time."""
        return self._rows if self._answered.wait(seconds) else None


class Questions:
    """Between the server, which asks, and the loop, which answers between two steps."""

    def __init__(self) -> None:
        """Nobody asks yet."""
        self._waiting: list[Question] = []
        self._lock = threading.Lock()

    def ask(self, device: str) -> Rows | None:
        """What the loop knows of a device; None where it does not answer in time."""
        question = Question(device)
        with self._lock:
            if len(self._waiting) >= QUESTIONS_MAX:
                return None
            self._waiting.append(question)
        return question.wait(ANSWER_SECONDS_MAX)

    def take(self) -> list[Question]:
        """The questions that nobody has taken yet, for the loop."""
        if not self._waiting:
            return []
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def answer(self, know: Callable[[str], Rows]) -> None:
        """Answer all that wait."""
        for question in self.take():
            question.reply(know(question.device))


class Listener:
    """The server, in threads of its own, from when it is made until it is closed.

    host, port: where it listens; port 0 in the address lets the system choose one.
    """

    def __init__(
        self,
        address: str,
        *,
        metrics: Callable[[], str],
        health: Callable[[], Health],
        state: Callable[[str], Rows | None],
    ) -> None:
        """Listen at HOST:PORT.

        Args:
            address: where. metrics: makes the exposition. health: judges the progress.
            state: what is known of a device, one row a shard and rule, [] for an unknown one;
                None where nobody answers.

        Raises:
            StreamgaugeError: the address cannot be listened at.
        """
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise StreamgaugeError(f"--listen: expected HOST:PORT, found {address!r}")
        self.metrics, self.health, self.state = metrics, health, state
        try:
            self._server = _Server((host, int(port)), self)
        except OSError as error:
            raise StreamgaugeError(f"--listen {address}: {error.strerror or error}") from error
        self.host, self.port = self._server.server_address[:2]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="listen", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], listener: Listener) -> None:
        self.listener = listener
        self.free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)  # too many at once
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever was there has gone."""


class _Handler(BaseHTTPRequestHandler):
    timeout = CONNECTION_SECONDS_MAX
    server: _Server
    server_version = "streamgauge"
    sys_version = ""

    def do_GET(self) -> None:
        listener = self.server.listener
        url = urlsplit(self.path)
        if url.path == "/metrics":
            text = listener.metrics()
            self._send(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif url.path == "/healthz":
            found = listener.health()
            body = {"status": "ok" if found.good else "no progress", "reasons": found.reasons}
            self._json(200 if found.good else 503, body)
        elif url.path == "/state":
            self._state(url.query)
        elif url.path == "/":
            self._json(200, {"paths": ["/metrics", "/healthz", "/state?device="]})
        else:
            self._json(404, {"error": "not found; / lists what there is"})

    do_HEAD = do_GET

    def _state(self, query: str) -> None:
        found = parse_qs(query[:DEVICE_BYTES_MAX], keep_blank_values=True).get("device", [])
        if len(found) != 1 or len(query) > DEVICE_BYTES_MAX:
            self._json(400, {"error": "expected one device: /state?device=t-1"})
            return
        rows = self.server.listener.state(found[0])
        if rows is None:
            self._json(503, {"error": "the loop did not answer in time"})
        else:
            self._json(200 if rows else 404, {"device": found[0], "rules": rows})

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode() + b"\n", "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what was asked for stands in no log."""
