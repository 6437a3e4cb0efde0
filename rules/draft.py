"""A rule on its way from text to functions, with every problem that is found on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..engine.errors import ConfigError, Problem
from .filter import RuleFilter
from .interpret import Dialect, definitions
from .tokens import problem
from .tree import Node, Query, Statement

problems_max = 20


@dataclass
class Draft:
    """A rule on its way through the passes; what a pass adds is named after it."""

    sql: str
    measure: str
    place: str
    has_topic: bool
    choices: dict[str, str]
    rule_name: str = ""
    found: list[tuple[int, Problem]] = field(default_factory=list)  # with offsets, to sort by
    # parse
    statement: Statement | None = None
    # check
    from_filter: str | None = None
    matches: Callable[[str], bool] | None = None
    # bind
    where: Node | None = None
    measured: Node | None = None
    reads: tuple[str, ...] = ()
    # emit
    filter: RuleFilter | None = None

    @property
    def query(self) -> Query:
        """The SELECT of the message."""
        assert self.statement is not None
        return self.statement.query

    @property
    def dialect(self) -> Dialect:
        """The semantics that were chosen."""
        return Dialect(**self.choices)

    @property
    def definitions(self) -> dict[str, Node]:
        """What SET gives each variable."""
        assert self.statement is not None
        return definitions(self.statement)

    def tell(self, at: int, message: str, hint: str = "", severity: str = "error") -> None:
        """Add a problem at one offset of the statement."""
        where = f"{self.place}.sql"
        self.found.append((at, problem(self.sql, at, where, message, hint, severity)))

    def tell_of(self, key: str, message: str, hint: str = "", severity: str = "error") -> None:
        """Add a problem of another key of the rule than its statement."""
        place = f"{self.place}.{key}" if key == "measure" else self.place
        self.found.append((len(self.sql), Problem(place, message, hint, severity=severity)))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, errors first, in the order of the text, up to a limit."""
        self.found.sort(key=lambda pair: (pair[1].severity != "error", pair[0]))
        return tuple(found for _, found in self.found[:problems_max])

    def stop_at_errors(self) -> None:
        """Raise ConfigError with all problems where one of them is an error."""
        problems = self.problems
        if problems and problems[0].severity == "error":
            raise ConfigError(problems)
