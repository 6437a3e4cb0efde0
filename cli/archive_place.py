"""What `streamgauge archive` and `errors` are about: a pipeline file, or a location alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import typer

from ..engine.aws import Service
from ..engine.bucket import SCHEME
from ..engine.errors import ConfigError, Problem
from ..engine.folder import Place, place
from ..engine.sinks.base import Patience
from ..engine.sinks.patient import PatientPlace
from ..rules.spec import Spec, load

PATIENCE_SECONDS_MAX = 60.0  # with a location that is busy or down


class Target(NamedTuple):
    """Where to look; `spec` is None where a location was named alone."""

    location: str
    place: Place
    spec: Spec | None


def target(given: str, table: str) -> Target:
    """A pipeline file, whose `[table]` says where, or the location itself.

    Raises:
        ConfigError: the file is wrong, or has no such table.
        typer.BadParameter: there is neither file nor directory of that name.
    """
    path = Path(given)
    spec = None
    location = given
    if not given.startswith(SCHEME) and path.is_file():
        spec = load(path)
        section = getattr(spec, table)
        if section is None:
            message = f"expected the table [{table}], found none"
            raise ConfigError([Problem(f"{path}: {table}", message)])
        location = section.location
    elif not given.startswith(SCHEME) and not path.is_dir():
        raise typer.BadParameter(f"{given}: no pipeline file and no directory of that name")
    return Target(location, patient(location), spec)


def patient(location: str) -> Place:
    """A location whose refused calls are made again for a while."""
    service = Service("s3") if location.startswith(SCHEME) else None
    patience = Patience(seconds_max=PATIENCE_SECONDS_MAX, sleep=time.sleep)
    return PatientPlace(place(location, service), patience)
