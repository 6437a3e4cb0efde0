"""A stand-in of the Lambda runtime API, for one event: what the runtime's client talks to.

    GET  /2018-06-01/runtime/invocation/next             the event; its headers name the request
    POST /2018-06-01/runtime/invocation/<id>/response    the answer
    POST /2018-06-01/runtime/invocation/<id>/error       what the handler raised
    POST /2018-06-01/runtime/init/error                  what importing it raised

(AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".)
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PATH = "/2018-06-01/runtime/"
REQUEST = "sample-request"
FUNCTION_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:sample"
ANSWER_BYTES_MAX = 6 << 20
POLL_SECONDS = 0.02  # between two looks at whether it is to stop


class Answer(NamedTuple):
    """What the function gave: its answer as JSON, or how it failed."""

    body: bytes
    failed: bool


class _Server(ThreadingHTTPServer):
    """A server whose client is ended while it waits for another event, which is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RuntimeApi:
    """Serves one event on a free port of loopback; a second one is never handed out."""

    def __init__(self, event: bytes, seconds: float) -> None:
        """Take the event and how long the function may take; start to listen."""
        self.answers: queue.Queue[Answer] = queue.Queue()
        self._events: queue.Queue[bytes] = queue.Queue()
        self._events.put(event)
        self._seconds = seconds
        self._server = _Server(("127.0.0.1", 0), self._handler())
        serve = functools.partial(self._server.serve_forever, poll_interval=POLL_SECONDS)
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What AWS_LAMBDA_RUNTIME_API is to be."""
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next(self) -> tuple[dict[str, str], bytes]:
        """The event with its headers; waits for ever where it has been handed out."""
        event = self._events.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": REQUEST,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
            "Content-Type": "application/json",
        }
        return headers, event

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: apart they wait for an acknowledgement

            def do_GET(self) -> None:
                if self.path != PATH + "invocation/next":
                    return self._answer(404, {}, b"")
                return self._answer(200, *api.next())

            def do_POST(self) -> None:
                size = min(int(self.headers.get("Content-Length", 0)), ANSWER_BYTES_MAX)
                body = self.rfile.read(size)
                self._answer(202, {}, b"{}")
                api.answers.put(Answer(body, not self.path.endswith("/response")))

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, *_: Any) -> None:
                """Say nothing: the function's own log is what counts."""

        return Handler
