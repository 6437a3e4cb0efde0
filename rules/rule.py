"""A statement applied to one message at a time, as AWS IoT applies a rule.

topic > FROM, or the rule's own topic of Basic Ingest > SET > WHERE > SELECT > what goes out
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET

from ..engine.errors import ConfigError, Problem
from . import topic as topics
from .check import check
from .draft import Draft
from .fold import folded, inlined
from .interpret import CURRENT, evaluate
from .message import Message, Scope
from .output import Output, OutputError
from .parse import parse
from .template import Template, TemplateError
from .tokens import problem
from .tree import Node, Star, Statement
from .values import CostlyError, truth_of

__all__ = ["Message", "Outcome", "Rule"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule makes of a message.

    kind: "output"; "not_triggered": FROM does not match; "no_action": WHERE is not true; "error":
    the SELECT has no output for this message. output: the bytes that go out. where: "false" or
    "undefined", where WHERE let no action happen. error: what is wrong, in words.
    """

    kind: str
    output: bytes = b""
    where: str | None = None
    error: str | None = None


def _any(topic: str) -> bool:
    return True


class Rule:
    """One statement, ready for messages.

    statement: its tree. filter: the topic filter of FROM, None without one. definitions: what SET
    gives. warnings: what is legal but hardly meant.
    """

    def __init__(
        self,
        sql: str,
        *,
        version: str = CURRENT,
        int_division: str = "int",
        undefined_logic: str = "strict",
        rule_name: str | None = None,
        where: str = "rule",
    ) -> None:
        """Compile; `where` is the place of the statement in what the user wrote.

        Args:
            rule_name: the name under which messages of Basic Ingest reach this rule.

        Raises:
            ConfigError: with every problem of the statement.
        """
        self._choices = {
            "version": version,
            "int_division": int_division,
            "undefined_logic": undefined_logic,
        }
        self._name = rule_name or ""
        draft = self._checked(sql, where)
        assert draft.statement is not None
        self.statement: Statement = draft.statement
        self.dialect = draft.dialect
        self.definitions = draft.definitions
        self.filter = draft.from_filter
        self.warnings = draft.problems
        self._reached = draft.matches or topics.reaches(_any, self._name)
        condition = draft.query.where
        self._where = None if condition is None else self._bound(condition)
        self._output = Output(draft.query, self.dialect)

    def apply(self, message: Message) -> Outcome:
        """Apply FROM, WHERE and SELECT to one message."""
        message.definitions = self.definitions
        message.variables.clear()
        message.steps = 0
        if not self.matches(message.topic):
            return Outcome("not_triggered")
        try:
            if self._where is not None:
                truth = truth_of(evaluate(self._where, message, self.dialect))
                if truth is not True:
                    return Outcome("no_action", where="undefined" if truth is UNSET else "false")
            return Outcome("output", self._output.of(message))
        except (CostlyError, OutputError) as error:
            return Outcome("error", error=str(error))

    def passes(self, message: Scope) -> bool:
        """Whether WHERE is true of a message. Raises CostlyError."""
        if self._where is None:
            return True
        return truth_of(evaluate(self._where, message, self.dialect)) is True

    def output(self, message: Scope) -> bytes:
        """What SELECT puts out, whatever WHERE says. Raises OutputError and CostlyError."""
        return self._output.of(message)

    def matches(self, topic: str | None) -> bool:
        """Whether a message of this topic reaches the rule; one without topic always does."""
        return topic is None or self._reached(topic)

    def template(self, text: str, where: str) -> Template:
        """Compile a substitution template, which may use the variables of the statement.

        Raises:
            ConfigError: with every problem of it; `where` is its place in what the user wrote.
        """

        def expression(part: str, at: int) -> Node:
            sql = f"SELECT {part}\nAS x FROM '#'"
            draft = self._checked(sql, where, self.statement)
            items = draft.query.items
            if len(items) != 1 or draft.query.bare or isinstance(items[0].value, Star):
                raise ConfigError([Problem(where, f"expected one value in ${{{part}}}")])
            return self._bound(items[0].value)

        try:
            return Template(text, self.dialect, expression)
        except TemplateError as error:
            raise ConfigError([problem(text, error.offset, where, str(error))]) from None

    def _bound(self, node: Node) -> Node:
        return folded(inlined(node, self.definitions), self.dialect)

    def _checked(self, sql: str, place: str, around: Statement | None = None) -> Draft:
        """A statement of which every part can be evaluated; `around` gives it its variables."""
        draft = Draft(sql, "value", place, True, self._choices, self._name)
        passes: tuple[Callable[[Draft], None], ...] = (parse, check)
        for apply in passes:
            apply(draft)
            draft.stop_at_errors()
            if around is not None and apply is parse and draft.statement is not None:
                draft.statement = Statement(0, around.variables, draft.query)
        return draft
