"""The first pass of a rule: the text to a tree, the choices to known ones."""

from __future__ import annotations

from ..engine.errors import ConfigError
from . import sql as grammar
from .draft import Draft
from .interpret import VERSIONS
from .tokens import nearest, shown

_CHOICES = {
    "version": VERSIONS,
    "int_division": ("int", "decimal"),
    "undefined_logic": ("strict", "kleene"),
}


def parse(draft: Draft) -> None:
    """Read the statement, the measure and the choices, each by itself."""
    for name, known in _CHOICES.items():
        found = draft.choices[name]
        if found not in known:
            message = f"{name}: expected {' or '.join(known)}, found {shown(found)}"
            draft.tell_of(name, message, nearest(found, known))
    if not all(draft.measure.split(".")):
        message = "expected a dotted path in the output of the SELECT, such as temperature"
        draft.tell_of("measure", f'{message}, found "{shown(draft.measure)}"')
    try:
        draft.statement = grammar.parse(draft.sql, f"{draft.place}.sql")
    except ConfigError as error:
        draft.found += [(0, found) for found in error.problems]
