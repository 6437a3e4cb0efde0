"""A small HTTP server beside a running pipeline: /metrics, /healthz, /state?device=.

It has no authentication: it listens where it is told and nowhere else, which should be this
machine, and something that signs users in stands in front of it where others may look. Questions
about a device are answered by the loop that owns the pipelines, between two of its steps: nothing
here touches them. Whoever asks can hold up neither the loop nor the others: a request has a size
and a time, and there are only so many at once.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from ..engine.errors import StreamgaugeError
from .backoff import Refusal

ANSWER_SECONDS_MAX = 2.0  # how long a question about a device waits for the loop
REQUEST_SECONDS_MAX = 5.0  # from when a connection is made until its request is there
REQUEST_BYTES_MAX = 16_384  # request line and headers
CONNECTIONS_MAX = 32  # at once; what comes on top is closed without an answer
QUESTIONS_MAX = 64  # that no loop has taken yet; what comes on top is not answered
LOOP_SECONDS_MAX = 30.0  # without a turn of the loop, until that is no health
REFUSED_SECONDS_MAX = 60.0  # of one step of a shard, until that is no health
STOP_LOOK_SECONDS = 0.1  # so often the server sees whether it is to close

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
    """A question about a device, which somebody waits for.

    abandoned: nobody waits any more; a late reply does no harm.
    """

    def __init__(self, device: str) -> None:
        """Ask about a device."""
        self.device = device
        self.abandoned = False
        self._answered = threading.Event()
        self._rows: Rows | None = None

    def reply(self, rows: Rows | None) -> None:
        """Answer it; None: that cannot be told now."""
        self._rows = rows
        self._answered.set()

    def wait(self, seconds: float) -> Rows | None:
        """The answer, None where none came in time, or it cannot be told."""
        self.abandoned = not self._answered.wait(seconds)
        return None if self.abandoned else self._rows


class Questions:
    """Between the server, which asks, and the loop, which answers between two steps."""

    def __init__(self, seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        """Nobody asks yet; who will waits `seconds_max` for an answer."""
        self._seconds_max = seconds_max
        self._waiting: list[Question] = []
        self._lock = threading.Lock()

    def ask(self, device: str) -> Rows | None:
        """What the loop knows of a device; None where it does not answer in time."""
        question = Question(device)
        with self._lock:
            if len(self._waiting) >= QUESTIONS_MAX:
                return None
            self._waiting.append(question)
        rows = question.wait(self._seconds_max)
        if rows is None:
            with self._lock:
                if question in self._waiting:
                    self._waiting.remove(question)
        return rows

    def take(self) -> list[Question]:
        """The questions that nobody has taken yet, for the loop."""
        if not self._waiting:
            return []
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def answer(self, know: Callable[[str], Rows | None]) -> None:
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
        seconds_max: float = REQUEST_SECONDS_MAX,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Listen at HOST:PORT.

        Args:
            address: where; other machines reach it only if HOST is an address that they reach.
            metrics: makes the exposition. health: judges the progress.
            state: what is known of a device, one row a shard and rule, [] for an unknown one;
                None where nobody answers.
            seconds_max: that a request may take to come. connections_max: at once.

        Raises:
            StreamgaugeError: the address cannot be listened at.
        """
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise StreamgaugeError(f"--listen: expected HOST:PORT, found {address!r}")
        self.metrics, self.health, self.state = metrics, health, state
        self.seconds_max = seconds_max
        try:
            self._server = _Server(host, int(port), self, connections_max)
        except (OSError, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or error
            raise StreamgaugeError(f"--listen {address}: {cause}") from error
        self.host, self.port = self._server.server_address[:2]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_LOOK_SECONDS,), name="listen", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more; requests that are being answered do not hold this up."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, host: str, port: int, listener: Listener, connections_max: int) -> None:
        self.listener = listener
        self.request_queue_size = connections_max
        self._free = threading.BoundedSemaphore(connections_max)
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__(address, _Handler)  # type: ignore[arg-type]  # (host, port, ...) of any kind

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as HTTPServer would."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)  # too many at once
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever was there has gone."""


class _TooLong(Exception):
    """A request is longer than REQUEST_BYTES_MAX."""


class _Request(io.RawIOBase):
    """The bytes of one request, as long as they are few and come in time."""

    def __init__(self, connection: socket.socket, seconds_max: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds_max
        self._left = REQUEST_BYTES_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Take what has come; the time is that of the whole request, not of one word of it."""
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if not self._left:
            raise _TooLong
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "streamgauge"
    sys_version = ""
    command = requestline = ""  # until they are read
    request_version = default_request_version = "HTTP/1.0"  # so every answer has its headers

    def setup(self) -> None:
        seconds = self.server.listener.seconds_max
        super().setup()
        self.connection.settimeout(seconds)
        self.rfile = io.BufferedReader(_Request(self.connection, seconds))

    def handle(self) -> None:
        try:
            super().handle()
        except _TooLong:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        try:
            status, kind, body = self._answer(path, query)
        except Exception:  # a bug of ours; silence would look like a network that is down
            status, kind, body = _json(500, {"error": "this could not be answered"})
        self._send(status, kind, body)

    do_HEAD = do_GET

    def _answer(self, path: str, query: str) -> tuple[int, str, bytes]:
        listener = self.server.listener
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", listener.metrics().encode()
        if path == "/healthz":
            found = listener.health()
            body = {"status": "ok" if found.good else "no progress", "reasons": found.reasons}
            return _json(200 if found.good else 503, body)
        if path == "/state":
            return self._state(query)
        if path == "/":
            return _json(200, {"paths": ["/metrics", "/healthz", "/state?device="]})
        return _json(404, {"error": "not found; / lists what there is"})

    def _state(self, query: str) -> tuple[int, str, bytes]:
        found = parse_qs(query, keep_blank_values=True).get("device", [])
        if len(found) != 1:
            return _json(400, {"error": "expected one device: /state?device=t-1"})
        rows = self.server.listener.state(found[0])
        if rows is None:
            return _json(503, {"error": "not known now: the loop is busy, or loads its state"})
        return _json(200 if rows else 404, {"device": found[0], "rules": rows})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request of ours, without showing it again."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        self._send(*_json(code, {"error": HTTPStatus(code).phrase}))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.connection.settimeout(self.server.listener.seconds_max)  # of the answer's way back
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what was asked for stands in no log."""


def _json(status: int, body: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body, allow_nan=False).encode() + b"\n"
