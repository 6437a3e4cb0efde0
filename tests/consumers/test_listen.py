"""The server beside a run: what it answers over real HTTP, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from streamgauge.consumers import listen
from streamgauge.consumers.backoff import Refusal
from streamgauge.consumers.listen import Health, Listener, Questions, health
from streamgauge.engine.errors import StreamgaugeError


class Served:
    def __init__(self) -> None:
        self.health = Health(True, [])
        self.rows: list[dict[str, Any]] | None = [{"rule": "hot"}]
        self.asked: list[str] = []
        self.listener = Listener(
            "127.0.0.1:0", metrics=lambda: "m 1\n", health=lambda: self.health, state=self.state
        )

    def state(self, device: str) -> list[dict[str, Any]] | None:
        self.asked.append(device)
        return self.rows

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
        made = http.client.HTTPConnection("127.0.0.1", self.listener.port, timeout=10)
        with closing(made):
            made.request(method, path)
            answer = made.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())


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


@pytest.mark.parametrize("query", ["", "?device=a&device=b", "?device=" + "x" * 5000])
def test_a_question_that_is_none(query: str, served: Served) -> None:
    assert served.get("/state" + query)[0] == 400 and served.asked == []


def test_other_paths_and_methods(served: Served) -> None:
    assert served.get("/")[0] == 200 and served.get("/etc/passwd")[0] == 404
    assert served.get("/metrics", "POST")[0] == 501
    assert served.get("/metrics", "HEAD")[:2] == (200, b"")


def test_too_many_at_once_are_turned_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [
        socket.create_connection(("127.0.0.1", served.listener.port), timeout=10)
        for _ in range(listen.CONNECTIONS_MAX)
    ]
    with pytest.raises((http.client.HTTPException, OSError)):
        served.get("/metrics")
    for one in held:
        one.close()


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


def test_a_loop_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "ANSWER_SECONDS_MAX", 0.01)
    assert Questions().ask("d") is None


def test_health_is_progress() -> None:
    assert health(100.0, 110.0, {}, 0.0).good
    assert not health(100.0, 131.0, {}, 0.0).good
    refused = {"s": Refusal("deliver", 10.0, "down")}
    assert health(100.0, 100.0, refused, 60.0).good
    told = health(100.0, 100.0, refused, 71.0)
    assert not told.good and "deliver has been refused for 61 s: down" in told.reasons[0]
