"""Messages that were taken from a broker and are not acknowledged yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Taken:
    """One message on its way: acknowledged once nothing of it is `open` any more.

    connection: the one it came by; a packet id means nothing in another. packet_id: 0 with quality
    of service 0, where there is nothing to acknowledge.
    """

    __slots__ = ("connection", "open", "packet_id")

    def __init__(self, connection: int, packet_id: int) -> None:
        """Open, until it is said what becomes of it."""
        self.connection, self.packet_id = connection, packet_id
        self.open = 1


class InFlight:
    """Holds messages in the order in which they came; MQTT wants them acknowledged in it.

    open: how many have no outcome yet, those of connections that are gone too: it is what bounds
    memory.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.open = 0
        self._waiting: deque[Taken] = deque()

    def __len__(self) -> int:
        """How many are still to be acknowledged."""
        return len(self._waiting)

    def take(self, connection: int, packet_id: int) -> Taken:
        """Hold one more; `close` it once it is said what becomes of it."""
        taken = Taken(connection, packet_id)
        self.open += 1
        self._waiting.append(taken)
        return taken

    def close(self, taken: Taken) -> None:
        """Note that one of the outcomes that a message waits for has come."""
        assert taken.open > 0, "an outcome too many"
        taken.open -= 1
        if not taken.open:
            self.open -= 1

    def settled(self, connection: int) -> Iterator[Taken]:
        """Give up those at the head that have all their outcomes; those of this connection, to be
        acknowledged. Of connections that are gone nothing can be: the broker sends them again."""
        while self._waiting and (
            not self._waiting[0].open or self._waiting[0].connection != connection
        ):
            taken = self._waiting.popleft()
            if taken.connection == connection and taken.packet_id:
                yield taken
