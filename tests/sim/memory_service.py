"""What an AWS service is to its clients when it fails; the stand-ins in memory build on it.

A stand-in is the service itself; `client()` makes a client shaped like boto3's with the credentials
that are to be had at that moment, so that the real `Service` runs over it:
`Service("sns", make=topic.client)`. What a fault raises is what botocore raises.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from streamgauge.engine.aws import CONNECT_SECONDS_MAX, READ_SECONDS_MAX

FOREVER = float("inf")
URL = "http://127.0.0.1:1"


class Refusal(NamedTuple):
    """An error as a service gives it."""

    code: str
    status: int
    message: str


@dataclass(frozen=True)
class Odds:
    """How likely each fault is at one call."""

    throttled: float = 0.0
    failed: float = 0.0  # 5xx
    down: float = 0.0  # no connection
    lost: float = 0.0  # it is done, and the answer does not arrive


PEACE = Odds()


class MemoryService:
    """The faults of one service, which are fields to be set at any time.

    throttle_next: calls that are refused next. lose_next: writes that are done next, but whose
    answer does not arrive. down_until: nothing answers before this time on the clock; `silent`:
    it does not even refuse a connection. odds: faults that are drawn. on_call: is told each
    call twice, before anything of it is done and, if it is, before the answer goes back; where it
    raises, the caller has died there. answers_lost: how many answers were. spend: is told the
    seconds that a caller waits for an answer that does not come.
    """

    THROTTLED = Refusal("Throttling", 400, "Rate exceeded")
    FAILED = Refusal("InternalError", 500, "An internal error has occurred")
    EXPIRED = Refusal("ExpiredToken", 403, "The security token included in the request is expired")

    def __init__(
        self,
        *,
        now: Callable[[], float] = lambda: 0.0,
        random: random_module.Random | None = None,
        spend: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        self.now = now
        self.random = random or random_module.Random(0)
        self.spend = spend
        self.answers_lost = 0
        self._valid = self._offered = 0
        self.heal()

    def heal(self) -> None:
        """End every fault, and offer credentials."""
        self.odds = PEACE
        self.on_call: Callable[[str, bool], object] | None = None
        self.throttle_next = self.lose_next = 0
        self.down_until = -FOREVER
        self.silent = False
        self.expired = self.EXPIRED
        self.renew()

    def expire(self, refusal: Refusal | None = None) -> None:
        """The credentials run out; there are no others before `renew`."""
        self._valid += 1
        self.expired = refusal or self.EXPIRED

    def renew(self) -> None:
        """New credentials are to be had, by clients that are made from now on."""
        self._offered = self._valid

    @property
    def credentials(self) -> int:
        """What a client that is made now has."""
        return self._offered

    @contextmanager
    def call(self, operation: str, credentials: int, writes: bool = False) -> Iterator[None]:
        """Around what a call does: raise what stands in its way, or in that of its answer."""
        self._tell(operation, False)
        self._refuse(operation, credentials)
        try:
            yield
        finally:  # an answer that is lost hides a refusal, too
            self._tell(operation, True)
            self._lose(writes)

    def _tell(self, operation: str, done: bool) -> None:
        if self.on_call is not None:
            self.on_call(operation, done)

    def _refuse(self, operation: str, credentials: int) -> None:
        if self.now() < self.down_until or self._drawn(self.odds.down):
            if self.silent:
                self.spend(CONNECT_SECONDS_MAX)
                raise ConnectTimeoutError(endpoint_url=URL)
            raise EndpointConnectionError(endpoint_url=URL)
        if credentials < self._valid:
            fail(operation, self.expired)
        if self.throttle_next > 0 or self._drawn(self.odds.throttled):
            self.throttle_next -= self.throttle_next > 0
            fail(operation, self.THROTTLED)
        if self._drawn(self.odds.failed):
            fail(operation, self.FAILED)

    def _lose(self, writes: bool) -> None:
        lost = writes and self.lose_next > 0
        self.lose_next -= lost
        if lost or self._drawn(self.odds.lost):
            self.answers_lost += 1
            self.spend(READ_SECONDS_MAX)
            raise ReadTimeoutError(endpoint_url=URL)

    def _drawn(self, odds: float) -> bool:
        return odds > 0 and self.random.random() < odds


def fail(operation: str, refusal: Refusal) -> NoReturn:
    """Raise an error as boto3 does for a refusal."""
    answer: Any = {
        "Error": {"Code": refusal.code, "Message": refusal.message},
        "ResponseMetadata": {"HTTPStatusCode": refusal.status},
    }
    raise ClientError(answer, operation)
