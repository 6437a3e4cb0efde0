"""How a broker is reached, and when it is tried again: what every client does the same.

Pauses between two tries have full jitter and grow; only a connection that has lasted makes them
short again, so that two clients with one id do not throw each other out for ever.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..engine.errors import StreamgaugeError

KEEPALIVE_SECONDS = 10  # a link that is dead and does not say so is seen within twice this
CONNECT_SECONDS_MAX = 5.0
SESSION_SECONDS = 86_400 * 7  # for which a broker is asked to keep what we miss
RECEIVE_MAX = 65_535
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.2, 30.0
LASTED_SECONDS = 30.0
PORTS = {"mqtt": 1883, "mqtts": 8883}
V311, V5 = 4, 5  # protocol levels


@dataclass(frozen=True)
class Broker:
    """How a broker is reached; the fields are those of [mqtt], and the level of the protocol.

    Before MQTT 5 a broker cannot be told how much we take (nothing is read while there is no room),
    does not say which subscription a message comes for, and has no shared subscriptions.
    """

    url: str
    client_id: str
    qos: int = 1
    share: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    username: str | None = None
    password: str | None = None
    max_in_flight: int = 2000
    version: int = V5

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or PORTS[parts.scheme]

    @property
    def receive_max(self) -> int:
        """How many messages may be without acknowledgement, as the protocol has it."""
        return min(self.max_in_flight, RECEIVE_MAX)

    def subscription(self, topic_filter: str) -> str:
        """What is subscribed to, for a topic filter."""
        return f"$share/{self.share}/{topic_filter}" if self.share else topic_filter

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None where the URL asks for none.

        Raises:
            StreamgaugeError: a file of certificates cannot be read; names it.
        """
        if urlsplit(self.url).scheme != "mqtts":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(name) for name in (self.ca, self.cert, self.key) if name)
            raise StreamgaugeError(f"mqtt: {files}: cannot be used: {error}") from error
        return context


class Tries:
    """When the next connection is to be tried.

    connection: how many there were. connected: whether there is one now. granted: how many
    subscriptions it has. reconnects: by cause. fatal: why there is no use in trying, None while
    there is.
    """

    def __init__(
        self,
        broker: Broker,
        now: Callable[[], float],
        sleep: Callable[[float], object],
        random: Callable[[], float],
        log: Callable[..., None],
    ) -> None:
        """Let the first try be due."""
        self.connection, self.connected, self.granted = 0, False, 0
        self.reconnects: dict[str, int] = {}
        self.fatal: StreamgaugeError | None = None
        self.at = 0.0
        self._broker, self._now, self._sleep = broker, now, sleep
        self._random, self._log = random, log
        self._bound = PAUSE_SECONDS_FIRST
        self._since = 0.0  # when the connection was made

    def due(self, seconds: float) -> bool:
        """Whether it is time for a try; if not, at most so much of the wait is slept."""
        left = self.at - self._now()
        if left > 0:
            self._sleep(min(left, seconds))
        return left <= 0

    def made(self, session_present: bool) -> None:
        """Note that there is a connection."""
        self.connection += 1
        self.granted = 0
        self.connected, self._since = True, self._now()
        self._log("connected", connection=self.connection, session_present=session_present)

    def lost(self, cause: str, message: str) -> None:
        """Note that there is no connection, and when the next is to be tried."""
        if self.connected and self._now() - self._since >= LASTED_SECONDS:
            self._bound = PAUSE_SECONDS_FIRST
        self.connected = False
        self.reconnects[cause] = self.reconnects.get(cause, 0) + 1
        seconds = self._random() * self._bound
        self._bound = min(2 * self._bound, PAUSE_SECONDS_MAX)
        self.at = self._now() + seconds
        self._log("disconnected", cause=cause, message=message, seconds=round(seconds, 3))

    def refused(self, reason: str) -> None:
        """Note that the broker refuses us for good; at first that is the end."""
        if not self.connection:
            self.fatal = StreamgaugeError(f"mqtt: {self._broker.url} refuses us: {reason}")

    def topic_granted(self) -> None:
        """Note that the broker has taken a subscription."""
        self.granted += 1

    def topic_refused(self, topic: str, reason: str) -> None:
        """Note that the broker refuses a topic; at the first connection that is the end."""
        self._log("subscription_refused", topic=topic, reason=reason)
        if self.connection == 1:
            text = f"mqtt: {self._broker.url} refuses topic {topic}: {reason}"
            self.fatal = StreamgaugeError(text)
