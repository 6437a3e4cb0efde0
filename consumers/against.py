"""What a changed pipeline file makes of the state that an earlier one has left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..engine import files, state
from ..engine.errors import InputError, StateError
from ..engine.pane_merger import MODE
from ..rules.edges import Edges
from ..rules.plan import fingerprint
from ..rules.spec import Spec

KEPT, CHANGED, NEW, REMOVED = "kept", "changed", "new", "removed"
_GENERATION = re.compile(r"[0-9]{20}")


class Fate(NamedTuple):
    """What becomes of one rule.

    what: kept, changed (its windows and alert states start empty), new (the same), or removed.
    shards: in which it was found so. firing: its devices that fire there.
    """

    rule: str
    what: str
    shards: int
    firing: int


def fates(spec: Spec, location: str, edges: Edges) -> tuple[int, list[Fate]]:
    """How many shards have left state there, and what becomes of each rule of file and state.

    Args:
        location: of state objects, as `state.location`; or one state object, a file.

    Raises:
        InputError: there is no state of this pipeline, or none that can be read; says which.
    """
    bodies = list(_bodies(spec, location, edges))
    if not bodies:
        raise InputError(f"{location}: no state of pipeline {spec.pipeline.name} there")
    before = f"{MODE}:" if spec.delivery.mode == MODE else ""
    own = {rule.name: before + fingerprint(spec, rule) for rule in spec.rules}
    found: dict[tuple[str, str], list[int]] = {}
    for body in bodies:
        saved = body["rules"]
        for name in dict.fromkeys([*own, *saved]):
            firing = int(np.count_nonzero(saved[name]["firing"])) if name in saved else 0
            found.setdefault((name, _fate(name, own, saved)), []).append(firing)
    return len(bodies), [
        Fate(name, what, len(firing), sum(firing)) for (name, what), firing in found.items()
    ]


def _fate(name: str, own: dict[str, str], saved: dict[str, Any]) -> str:
    if name not in saved:
        return NEW
    if name not in own:
        return REMOVED
    return KEPT if saved[name]["fingerprint"] == own[name] else CHANGED


def _bodies(spec: Spec, location: str, edges: Edges) -> Iterator[dict[str, Any]]:
    """The newest full state of each shard that can be read."""
    name = spec.pipeline.name
    if Path(location).is_file():
        yield _body(Path(location).read_bytes(), location, name)
        return
    place = edges.place(location)
    shards: dict[str, list[str]] = {}
    for path in place.names(files.segment(name) + "/"):
        folder, _, generation = path.rpartition("/")
        if _GENERATION.fullmatch(generation):
            shards.setdefault(folder, []).append(path)
    for paths in shards.values():
        problems = []
        for path in sorted(paths, reverse=True):
            data = place.get(path)
            try:
                kind, body = state.decode(b"" if data is None else data)
            except StateError as error:
                problems.append(f"{place.url(path)}: {error}")
                continue
            if kind == "full":
                yield body
                break
        else:
            raise InputError(problems[0] if problems else f"{place.url(paths[0])}: no full state")


def _body(data: bytes, where: str, name: str) -> dict[str, Any]:
    try:
        kind, body = state.decode(data)
    except StateError as error:
        raise InputError(f"{where}: {error}") from None
    if kind != "full" or body.get("pipeline") != name:
        found = f"a {kind} one of pipeline {body.get('pipeline')}"
        raise InputError(f"{where}: expected a full state object of pipeline {name}, found {found}")
    return body
