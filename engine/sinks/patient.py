"""A place whose refused calls are made again, for commands that have nothing else to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..folder import Place
from .base import Patience


class PatientPlace:
    """Another place, with patience; UnavailableError when that is at its end."""

    def __init__(self, place: Place, patience: Patience) -> None:
        """Call nothing yet."""
        self._place = place
        self._patience = patience

    def url(self, name: str) -> str:
        """The whole name, for messages."""
        return self._place.url(name)

    def put(self, name: str, data: bytes, kind: str) -> None:
        """Write an object, or another in its place."""
        self._patience.insist(lambda: self._place.put(name, data, kind))

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None where there is none."""
        return self._patience.insist(lambda: self._place.get(name))

    def names(self, below: str) -> Iterator[str]:
        """The names that begin with `below`, all listed at once."""
        return iter(self._patience.insist(lambda: list(self._place.names(below))))

    def sizes(self, below: str) -> Iterator[tuple[str, int]]:
        """The names that begin with `below` and the bytes of each, all listed at once."""
        return iter(self._patience.insist(lambda: list(self._place.sizes(below))))

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; nothing happens where there are none."""
        self._patience.insist(lambda: self._place.delete(names))
