"""A proxy in front of a server that stands in for AWS, which refuses, loses and holds calls.

Faults are counted in calls, not in seconds, so that a slow machine meets the same ones: a rule says
which operation it meets, how many of its calls pass before, and how many it then meets. Of several
rules that would meet a call the first does. What happened is in `Proxy.calls`, in the order in
which the calls came.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

ANSWER_SECONDS_MAX = 30.0  # of the server
HOLD_SECONDS_MAX = 60.0  # of a call that a test has forgotten
ALWAYS = 1 << 30  # calls
ENTRY = re.compile(r"(PublishBatchRequestEntries\.member\.)(\d+)(\..*)")
OF_THE_HOP = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


class Call(NamedTuple):
    """A request: the operation as AWS names it, and of S3 the path, which is /bucket/key.

    signer: the id of the access key that it is signed with.
    """

    operation: str
    path: str
    body: bytes
    signer: str


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


Forward = Callable[[bytes], Answer]  # sends the call on, with this body
Fault = Callable[[Call, Forward], Answer | None]  # None: the connection is closed, with no answer


@dataclass
class Rule:
    """Which calls meet a fault: the operation ("" is any), part of the path, and how many.

    `after` so many have passed, of those that no rule before has met. met: how many have.
    """

    operation: str
    fault: Fault
    times: int = 1
    after: int = 0
    path: str = ""
    met: int = 0
    _passed: int = 0

    def meets(self, call: Call) -> bool:
        """Whether this call meets it; counts."""
        if self.operation not in ("", call.operation) or self.path not in call.path:
            return False
        if self._passed < self.after:
            self._passed += 1
            return False
        if self.met == self.times:
            return False
        self.met += 1
        return True


def refused(code: str, status: int = 400) -> Fault:
    """The service says no, in the words of its protocol; nothing was done."""

    def fault(call: Call, forward: Forward) -> Answer:
        if call.operation in XML:
            error = f"<Code>{code}</Code><Message>by the proxy</Message>"
            text = f"<Error>{error}</Error>"
            if call.path == "/":  # of a service that is no S3
                text = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"
            return Answer(status, [("Content-Type", "text/xml")], text.encode())
        return _json({"__type": code, "message": "by the proxy"}, status)

    return fault


def down(call: Call, forward: Forward) -> None:
    """The connection is closed; nothing was done."""


def lost(call: Call, forward: Forward) -> None:
    """It was done, and the answer is lost."""
    forward(call.body)


def empty(call: Call, forward: Forward) -> Answer:
    """GetRecords finds nothing, although there is more: as AWS does at times."""
    iterator = json.loads(call.body)["ShardIterator"]
    return _json({"Records": [], "NextShardIterator": iterator, "MillisBehindLatest": 7000})


def few(records_max: int) -> Fault:
    """GetRecords gives fewer records than it is asked for, as AWS does at times."""

    def fault(call: Call, forward: Forward) -> Answer:
        request = json.loads(call.body) | {"Limit": records_max}
        return forward(json.dumps(request).encode())

    return fault


def unprocessed(call: Call, forward: Forward) -> Answer:
    """BatchGetItem leaves every key for later: what a table says that is throttled in part."""
    return _json({"Responses": {}, "UnprocessedKeys": json.loads(call.body)["RequestItems"]})


def partly(call: Call, forward: Forward) -> Answer:
    """PublishBatch takes every second entry, the first too, and refuses the others for now."""
    kept, refused_ids = [], []
    for name, value in parse_qsl(call.body.decode(), keep_blank_values=True):
        entry = ENTRY.fullmatch(name)
        if entry is None:
            kept.append((name, value))
        elif int(entry[2]) % 2:
            kept.append((f"{entry[1]}{int(entry[2]) // 2 + 1}{entry[3]}", value))
        elif entry[3] == ".Id":
            refused_ids.append(value)
    answer = forward(urlencode(kept).encode())
    failed = "".join(
        f"<member><Id>{one}</Id><Code>InternalError</Code><Message>by the proxy</Message>"
        "<SenderFault>false</SenderFault></member>"
        for one in refused_ids
    )
    body, found = re.subn("<Failed></Failed>", f"<Failed>{failed}</Failed>", answer.body.decode())
    assert found == 1, answer.body
    return answer._replace(body=body.encode())


def expired(signer: str) -> Fault:
    """Whatever is signed with this key is refused, as a token that has run out; the rest is not."""

    def fault(call: Call, forward: Forward) -> Answer | None:
        code = "ExpiredToken" if call.operation in XML else "ExpiredTokenException"
        return refused(code)(call, forward) if call.signer == signer else forward(call.body)

    return fault


class Hold:
    """A fault that keeps a call waiting until `let_go`, for a test to do something meanwhile.

    `done` says when the call is done: "before" it waits, "after", or "never".
    """

    def __init__(self, done: Literal["before", "after", "never"]) -> None:
        self._done = done
        self._reached, self._over = threading.Event(), threading.Event()

    def __call__(self, call: Call, forward: Forward) -> Answer | None:
        if self._done == "before":
            forward(call.body)
        self._reached.set()
        self._over.wait(HOLD_SECONDS_MAX)
        return forward(call.body) if self._done == "after" else None

    def wait(self) -> None:
        """Return once a call is held."""
        assert self._reached.wait(HOLD_SECONDS_MAX), "no such call has come"

    def let_go(self) -> None:
        self._over.set()


class Proxy:
    """Listens on a port of loopback, until `close`. calls: (call, the rule that met it or None)."""

    def __init__(self, port: int, rules: Sequence[Rule] = ()) -> None:
        """Stand in front of the server on this port."""
        self.rules = list(rules)
        self.calls: list[tuple[Call, Rule | None]] = []
        self._port = port
        self._came = threading.Condition()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def spent(self) -> bool:
        """Whether every rule has met its calls, of those that always hold at least one."""
        return all(rule.met == rule.times or 0 < rule.met < rule.times == ALWAYS
                   for rule in self.rules)  # fmt: skip

    def put_first(self, *rules: Rule) -> None:
        """Add rules, before those there are."""
        with self._came:
            self.rules[:0] = rules

    def count(self, operation: str, path: str = "") -> int:
        """How many calls of an operation have come so far."""
        return sum(call.operation == operation and path in call.path for call, _ in self.calls)

    def wait(self, operation: str, times: int, path: str = "") -> None:
        """Return once so many calls of an operation have come."""
        with self._came:
            good = self._came.wait_for(
                lambda: self.count(operation, path) >= times, HOLD_SECONDS_MAX
            )
        assert good, f"{self.count(operation, path)} calls of {operation} instead of {times}"

    def rule_of(self, call: Call) -> Rule | None:
        """The rule that meets a call that has just come."""
        with self._came:
            found = next((rule for rule in self.rules if rule.meets(call)), None)
            self.calls.append((call, found))
            self._came.notify_all()
            return found

    def upstream(self) -> http.client.HTTPConnection:
        """A connection to the server."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS_MAX)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._server.failed is not None:
            raise self._server.failed


XML = {"PublishBatch", "PutObject", "GetObject", "HeadObject", "ListObjectsV2", "DeleteObjects"}
OF_S3 = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "POST": "DeleteObjects"}


class _Server(ThreadingHTTPServer):
    """failed: what went wrong in the proxy itself, which the test must hear of."""

    daemon_threads = True  # connections that a client keeps open hold nothing up
    failed: BaseException | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the error; a client that was killed is none, it is what tests are about."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.failed = error


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one to the server behind it."""

    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._behind = self.proxy.upstream()

    def finish(self) -> None:
        self._behind.close()
        super().finish()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signed = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        signer = signed[1] if signed else ""
        call = Call(self._operation(body), urlsplit(self.path).path, body, signer)
        rule = self.proxy.rule_of(call)
        answer = self._forward(body) if rule is None else rule.fault(call, self._forward)
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in answer.headers}:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _operation(self, body: bytes) -> str:
        """What AWS calls this request."""
        target = self.headers.get("X-Amz-Target")
        if target is not None:
            return target.rpartition(".")[2]
        url = urlsplit(self.path)
        if url.path == "/":
            return parse_qs(body.decode())["Action"][0]
        return "ListObjectsV2" if "list-type=2" in url.query else OF_S3[self.command]

    def _forward(self, body: bytes) -> Answer:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_THE_HOP}
        self._behind.request(self.command, self.path, body, headers)
        answer = self._behind.getresponse()
        data = answer.read()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in OF_THE_HOP]
        if self.command == "HEAD":  # its length is that of the object
            kept.append(("Content-Length", answer.headers.get("Content-Length", "0")))
        return Answer(answer.status, kept, data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _json(content: dict[str, Any], status: int = 200) -> Answer:
    headers = [("Content-Type", "application/x-amz-json-1.1")]
    return Answer(status, headers, json.dumps(content).encode())
