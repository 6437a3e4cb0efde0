"""Publishing over MQTT from several processes, where one does not reach the rate.

Each process has a connection of its own. The messages of a partition key go through one of them, in
their order; between keys there is no order.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import queue
import signal
import ssl
import threading
import zlib
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from ..engine.errors import StreamgaugeError
from .destinations import Accept, Destination
from .messages import Messages
from .mqtt_publish import Publisher, Server

PARTS_MAX = 4  # on their way to one process
TEND_SECONDS = 0.01
END_SECONDS_MAX = 5.0  # of a process that is asked to end


@dataclass(frozen=True)
class Certificates:
    """What a TLS connection is made with: names of PEM files. `ca` None: those of the system."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        """The context; raises OSError where a file cannot be read."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


@dataclass
class _Member:
    process: Any
    connection: Connection
    parts: int = 0  # not taken yet
    drained: bool = False


@dataclass(frozen=True)
class _Progress:
    """What a process says: what was accepted (payloads, or none but their number), and more."""

    accepted: int
    payloads: list[bytes]
    refused: int
    taken: int = 0  # parts
    drained: bool = False
    failure: str = ""


class Publishers(Destination):
    """Several connections, each in a process of its own, which is started at once."""

    def __init__(
        self,
        server: Server,
        processes: int,
        certificates: Certificates | None = None,
        accept: Accept | None = None,
    ) -> None:
        """Start the processes; `server.tls` is left out, for a context cannot be handed over."""
        super().__init__(accept or (lambda payloads: None))
        context = multiprocessing.get_context("spawn")  # no thread or socket is taken along
        self._members: list[_Member] = []
        server = dataclasses.replace(server, tls=None)
        for number in range(processes):
            ours, theirs = context.Pipe()
            own = dataclasses.replace(server, client_id=f"{server.client_id}-{number}")
            process = context.Process(
                target=work, args=(theirs, own, certificates, accept is not None), daemon=True
            )
            process.start()
            theirs.close()
            self._members.append(_Member(process, ours))

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Hand them over; waits while a process has too many.

        Raises:
            StreamgaugeError: a process failed or has died.
        """
        self.sent += len(messages)
        rows: list[list[int]] = [[] for _ in self._members]
        for row, key in enumerate(messages.keys):
            rows[zlib.crc32(key.encode()) % len(rows)].append(row)
        for member, own in zip(self._members, rows, strict=True):
            if not own:
                continue
            while member.parts >= PARTS_MAX:
                self._listen(None)
            part = messages.of(own)
            self._say(member, ("send", part.topics, part.data))
            member.parts += 1
        self._listen(0.0)

    def tend(self) -> None:
        """Hear what was accepted."""
        self._listen(0.0)

    def drain(self) -> None:
        """Return once everything is accepted or refused."""
        for member in self._members:
            member.drained = False
            self._say(member, ("drain",))
        while not all(member.drained for member in self._members):
            self._listen(None)

    def close(self) -> None:
        """End the processes."""
        for member in self._members:
            member.connection.close()
        for member in self._members:
            member.process.join(END_SECONDS_MAX)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()

    def _say(self, member: _Member, what: Any) -> None:
        try:
            member.connection.send(what)
        except OSError:
            self._listen(0.0)  # it may have said why
            raise StreamgaugeError("a publishing process has died") from None

    def _listen(self, seconds: float | None) -> None:
        by_connection = {member.connection: member for member in self._members}
        for ready in wait(list(by_connection), seconds):
            member = by_connection[ready]  # type: ignore[index]
            try:
                progress: _Progress = member.connection.recv()
            except (EOFError, OSError):
                raise StreamgaugeError("a publishing process has died") from None
            self.accepted += progress.accepted
            self.refused += progress.refused
            member.parts -= progress.taken
            member.drained |= progress.drained
            if progress.payloads:
                self._accept(progress.payloads)
            if progress.failure:
                raise StreamgaugeError(progress.failure)


def work(
    connection: Connection, server: Server, certificates: Certificates | None, tell: bool
) -> None:
    """Publish what comes until the pipe is closed, as the body of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this asks it to drain and to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told: list[bytes] = []
    if certificates is not None:
        server = dataclasses.replace(server, tls=certificates.context())
    publisher = Publisher(server, told.extend if tell else lambda payloads: None)
    said = [0, 0]  # accepted, refused

    def say(**more: Any) -> None:
        accepted, refused = publisher.accepted - said[0], publisher.refused - said[1]
        said[:] = publisher.accepted, publisher.refused
        if accepted or refused or more:
            connection.send(_Progress(accepted, list(told), refused, **more))
            told.clear()

    # Parts are received by a thread of their own, so that handing one over never waits for what is
    # said here: with both ends of a full pipe writing, neither would go on.
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    try:
        while True:
            try:
                what = inbox.get(timeout=TEND_SECONDS)
            except queue.Empty:
                publisher.tend()
                say()
                continue
            if what is None:
                publisher.close()
                return
            if what[0] == "drain":
                publisher.drain()
                say(drained=True)
            else:
                publisher.send(Messages(topics=what[1], data=what[2]))
                say(taken=1)
    except (BrokenPipeError, ConnectionResetError):
        publisher.close()
    except StreamgaugeError as error:
        say(failure=str(error))


def _receive(connection: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    """Take what comes over the pipe; None says that nothing will any more."""
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        inbox.put(None)
