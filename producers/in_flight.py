"""Messages that were taken from a broker and are not acknowledged yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Taken:
    """One message on its way: acknowledged once nothing of it is `open` any more.

    packet_id: 0 with quality of service 0, or where it must not be acknowledged. digest: tells it
    from other messages of that id. size: of its topic and payload, in bytes.
    """

    __slots__ = ("digest", "open", "packet_id", "size")

    def __init__(self, packet_id: int, digest: int, size: int) -> None:
        """Open, until it is said what becomes of it."""
        self.packet_id, self.digest, self.size = packet_id, digest, size
        self.open = 1


class InFlight:
    """Holds messages in the order in which they came; MQTT wants them acknowledged in it.

    A connection that breaks takes its packet ids with it. Where the broker has kept the session it
    sends again what it has no acknowledgement of, under the same ids and marked: what is recognised
    then is not taken a second time. Nothing depends on it; what is not recognised comes twice.

    open: how many have no outcome yet, those of connections that are gone too. bytes: of these. The
    two are what bounds memory.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.open = self.bytes = 0
        self._waiting: deque[Taken] = deque()  # of the connection that there is
        self._before: dict[int, Taken] = {}  # of those that are gone, by packet id

    def __len__(self) -> int:
        """How many are still to be acknowledged."""
        return len(self._waiting)

    def begin(self, resumed: bool) -> None:
        """Note that there is a new connection, and whether the broker has kept the session."""
        if not resumed:
            self._before.clear()
        else:
            self._before.update((one.packet_id, one) for one in self._waiting if one.packet_id)
        self._waiting.clear()

    def take(self, packet_id: int, digest: int, size: int) -> Taken:
        """Hold one more; `close` it once it is said what becomes of it."""
        if packet_id:
            self._before.pop(packet_id, None)  # the broker uses the id for another by now
        taken = Taken(packet_id, digest, size)
        self.open += 1
        self.bytes += size
        if packet_id:  # others are never acknowledged, and no broker bounds how many there are
            self._waiting.append(taken)
        return taken

    def recognised(self, packet_id: int, digest: int) -> bool:
        """Whether a message that comes again is one that is held already; it is acknowledged by
        this connection then."""
        taken = self._before.get(packet_id)
        if taken is None or taken.digest != digest or taken.packet_id != packet_id:
            return False
        self._waiting.append(self._before.pop(packet_id))
        return True

    def close(self, taken: Taken) -> None:
        """Note that one of the outcomes that a message waits for has come."""
        assert taken.open > 0, "an outcome too many"
        taken.open -= 1
        if not taken.open:
            self.open -= 1
            self.bytes -= taken.size

    def settled(self) -> Iterator[int]:
        """Give up those at the head that have all their outcomes; the packet ids of those that are
        to be acknowledged."""
        while self._waiting and not self._waiting[0].open:
            taken = self._waiting.popleft()
            if taken.packet_id:
                yield taken.packet_id
