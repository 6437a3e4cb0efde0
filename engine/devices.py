"""Device names as dense row numbers, so that what is known of devices can be columns."""

from __future__ import annotations

import re
from typing import Any


class Devices:
    """Device names to dense row numbers, in the order of their first appearance.

    `ids` is a dict whose missing keys add themselves: int device ids and their decimal text share
    one number. Numbers of forgotten devices are handed out again. `fresh` lists those handed out
    since it was last cleared.
    """

    __slots__ = ("ids", "names", "free", "fresh")

    def __init__(self) -> None:
        """Start with no device."""
        self.ids = _Ids(self)
        self.names: list[str] = []
        self.free: list[int] = []
        self.fresh: list[int] = []

    def __len__(self) -> int:
        """The number of numbers handed out."""
        return len(self.names)

    def forget(self, number: int) -> None:
        """Free one number for the next new device."""
        name = self.names[number]
        self.ids.pop(name, None)
        if re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", name):
            self.ids.pop(int(name), None)
        self.free.append(number)


class _Ids(dict[Any, int]):
    __slots__ = ("_devices",)

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self._devices = devices

    def __missing__(self, key: Any) -> int:
        devices = self._devices
        if type(key) is int and -(10**18) < key < 10**18:
            number = self[key] = self[str(key)]
            return number
        name = str(key)
        if type(key) is int:
            return self[name]
        if devices.free:
            number = devices.free.pop()
            devices.names[number] = name
        else:
            number = len(devices.names)
            devices.names.append(name)
        self[name] = number
        devices.fresh.append(number)
        return number
