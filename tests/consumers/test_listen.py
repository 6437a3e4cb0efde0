"""The server beside a run: what it answers over real HTTP, and what it refuses."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Any

import pytest

from streamgauge.consumers.backoff import Refusal
from streamgauge.consumers.listen import (
    QUESTIONS_MAX,
    REQUEST_BYTES_MAX,
    Health,
    Listener,
    Question,
    Questions,
    health,
)
from streamgauge.engine.errors import StreamgaugeError

ANSWER_SECONDS_MAX = 30  # of a test that fails, not of one that passes


class Served:
    def __init__(self, **limits: Any) -> None:
        self.health = Health(True, [])
        self.rows: list[dict[str, Any]] | None = [{"rule": "hot"}]
        self.asked: list[str] = []
        self.broken = False
        self.listener = Listener(
            "127.0.0.1:0",
            metrics=self.metrics,
            health=lambda: self.health,
            state=self.state,
            **limits,
        )

    def metrics(self) -> str:
        if self.broken:
            raise RuntimeError("a secret")
        return "m 1\n"

    def state(self, device: str) -> list[dict[str, Any]] | None:
        self.asked.append(device)
        return self.rows

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
        made = http.client.HTTPConnection(
            "127.0.0.1", self.listener.port, timeout=ANSWER_SECONDS_MAX
        )
        with closing(made):
            made.request(method, path)
            answer = made.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())

    def connect(self) -> socket.socket:
        address = ("127.0.0.1", self.listener.port)
        return socket.create_connection(address, timeout=ANSWER_SECONDS_MAX)

    def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes, up to where the server closes."""
        with closing(self.connect()) as made:
            made.sendall(request)
            return received(made)


def received(connection: socket.socket) -> bytes:
    found = b""
    try:
        while some := connection.recv(4096):
            found += some
    except ConnectionResetError:  # it closed before it had read all
        pass
    return found


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.listener.close()


def test_metrics_and_health(served: Served) -> None:
    status, body, headers = served.get("/metrics")
    assert (status, body) == (200, b"m 1\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert served.get("/healthz")[0] == 200
    served.health = Health(False, ["the loop has not turned"])
    status, body, _ = served.get("/healthz")
    assert status == 503 and json.loads(body)["reasons"] == ["the loop has not turned"]


def test_the_state_of_a_device(served: Served) -> None:
    status, body, _ = served.get("/state?device=a%2Fb%20c")
    assert status == 200 and served.asked == ["a/b c"]
    assert json.loads(body) == {"device": "a/b c", "rules": [{"rule": "hot"}]}
    served.rows = []
    assert served.get("/state?device=x")[0] == 404
    served.rows = None
    assert served.get("/state?device=x")[0] == 503


@pytest.mark.parametrize("query", ["", "?", "?device=a&device=b", "?other=a"])
def test_a_question_that_is_none(query: str, served: Served) -> None:
    assert served.get("/state" + query)[0] == 400 and served.asked == []


def test_other_paths(served: Served) -> None:
    paths = json.loads(served.get("/")[1])["paths"]
    assert [served.get(path + "x")[0] for path in paths] == [404, 404, 200]
    assert served.get("/etc/passwd")[0] == 404
    for path in (b"http://[", b"//[", b"*", b"/metrics/"):
        assert served.raw(b"GET " + path + b" HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404 ")


def test_head_is_get_without_a_body(served: Served) -> None:
    for path in ("/metrics", "/healthz", "/state?device=a", "/state", "/no"):
        status, body, headers = served.get(path)
        assert served.get(path, "HEAD")[:2] == (status, b"")
        assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "SING"])
def test_other_methods_are_not_allowed(method: str, served: Served) -> None:
    status, body, headers = served.get("/state?device=secret", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert headers["Cache-Control"] == "no-store" and b"secret" not in body
    assert served.asked == []


def test_what_is_no_request(served: Served) -> None:
    assert served.raw(b"\x00\xff secret here now\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    assert b"secret" not in served.raw(b"one two three secret\r\n\r\n")
    assert served.get("/metrics")[0] == 200


@pytest.mark.parametrize("head", [b"GET /state?device=", b"GET /metrics HTTP/1.1\r\nX: "])
def test_a_request_has_a_size(head: bytes, served: Served) -> None:
    answer = served.raw(head + b"x" * (REQUEST_BYTES_MAX - len(head)) + b"x")
    assert answer.startswith(b"HTTP/1.0 431 ") and served.asked == []


def test_many_headers_are_too_long(served: Served) -> None:
    lines = b"".join(b"A%d: b\r\n" % number for number in range(90))
    assert served.raw(b"GET / HTTP/1.1\r\n" + lines + b"\r\n").startswith(b"HTTP/1.0 200 ")
    assert b" 431 " in served.raw(b"GET / HTTP/1.1\r\n" + 20 * lines + b"\r\n")


def test_a_request_has_a_time_however_it_trickles() -> None:
    served = Served(seconds_max=0.2)
    sent = 0
    with closing(served.listener), closing(served.connect()) as slow:
        while sent < REQUEST_BYTES_MAX:  # a byte as often as one that waits for more can bear
            if select.select([slow], [], [], 0.01)[0]:
                break
            slow.sendall(b"G")
            sent += 1
        assert received(slow) == b"" and sent < 1000
        assert served.get("/metrics")[0] == 200


def test_too_many_at_once_are_turned_away() -> None:
    served = Served(connections_max=2)
    with closing(served.listener):
        with closing(served.connect()), closing(served.connect()):
            assert served.raw(b"GET /metrics HTTP/1.0\r\n\r\n") == b""
        answer = b""
        while not answer:  # until the server has seen that the two are gone
            answer = served.raw(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 200 ")


def test_a_fault_of_ours_is_told_without_its_text(served: Served) -> None:
    served.broken = True
    status, body, _ = served.get("/metrics")
    assert status == 500 and b"secret" not in body


def test_nothing_is_printed(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    served.broken = True
    for path in ("/metrics", "/no", "/state?device=secret"):
        served.get(path)
        served.get(path, "POST")
    served.raw(b"rubbish\r\n\r\n")
    served.listener.close()
    assert capfd.readouterr() == ("", "")


def test_closing_does_not_wait_for_an_answer() -> None:
    asked, go_on, found = threading.Event(), threading.Event(), list[int]()

    def state(device: str) -> list[dict[str, Any]] | None:
        asked.set()
        return [{}] if go_on.wait(ANSWER_SECONDS_MAX) else None

    served = Served()
    served.listener.state = state
    asking = threading.Thread(target=lambda: found.append(served.get("/state?device=d")[0]))
    asking.start()
    assert asked.wait(ANSWER_SECONDS_MAX)
    served.listener.close()
    with pytest.raises(ConnectionRefusedError):
        served.connect()
    assert found == []
    go_on.set()
    asking.join()
    assert found == [200]


def test_closing_at_once_and_twice() -> None:
    served = Served()
    served.listener.close()
    served.listener.close()


def test_an_address_of_the_other_kind() -> None:
    try:
        made = Listener("[::1]:0", metrics=str, health=lambda: Health(True, []), state=lambda _: [])
    except StreamgaugeError as error:  # a machine without the address
        assert "[::1]:0" in str(error)
        return
    with closing(made):
        assert made.host == "::1" and made.port > 0


def test_an_address_that_cannot_be() -> None:
    for address in ("9464", "127.0.0.1:http", "127.0.0.1:70000", ":1"):
        with pytest.raises(StreamgaugeError, match="expected HOST:PORT"):
            Listener(address, metrics=str, health=lambda: Health(True, []), state=lambda _: [])


def test_a_port_that_is_taken(served: Served) -> None:
    address = f"127.0.0.1:{served.listener.port}"
    with pytest.raises(StreamgaugeError, match=address):
        Listener(address, metrics=str, health=lambda: Health(True, []), state=lambda _: [])


def test_a_question_is_answered_by_the_loop() -> None:
    questions, found = Questions(), list[Any]()
    asking = threading.Thread(target=lambda: found.append(questions.ask("d")))
    asking.start()
    while not found:
        questions.answer(lambda device: [{"device": device}])
    asking.join()
    assert found == [[{"device": "d"}]]


def test_a_loop_that_does_not_answer() -> None:
    questions = Questions(seconds_max=0.01)
    assert questions.ask("d") is None
    assert questions.take() == []  # nobody waits for the answer any more


def test_a_late_reply_harms_nobody() -> None:
    question = Question("d")
    assert question.wait(0.0) is None and question.abandoned
    question.reply([{}])
    early = Question("e")
    early.reply([{}])
    assert early.wait(0.0) == [{}] and not early.abandoned


def test_only_so_many_questions_wait() -> None:
    questions = Questions(seconds_max=ANSWER_SECONDS_MAX)
    found: SimpleQueue[Any] = SimpleQueue()
    for _ in range(QUESTIONS_MAX + 1):
        threading.Thread(target=lambda: found.put(questions.ask("d")), daemon=True).start()
    # One of them is turned away at once; the others wait for the loop.
    assert found.get(timeout=ANSWER_SECONDS_MAX) is None
    questions.answer(lambda device: [{"device": device}])
    for _ in range(QUESTIONS_MAX):
        assert found.get(timeout=ANSWER_SECONDS_MAX) == [{"device": "d"}]


def test_health_is_progress() -> None:
    assert health(100.0, 110.0, {}, 0.0).good
    assert not health(100.0, 131.0, {}, 0.0).good
    refused = {"s": Refusal("deliver", 10.0, "down")}
    assert health(100.0, 100.0, refused, 60.0).good
    told = health(100.0, 100.0, refused, 71.0)
    assert not told.good and "deliver has been refused for 61 s: down" in told.reasons[0]
