"""A rule's text to a tree: the whole grammar of AWS IoT SQL, version 2016-03-23.

What the language has and this package cannot evaluate yet is parsed all the same, so that it can be
refused by name (that is compile.py's check); what the language does not have is refused here, at
the word or sign where it shows. Operators are parsed by how tight they bind (tree.BINDING).

Names are not reserved where the text is clear without it: `value`, `set`, `end`, `when`, `then` and
`else` are keys like any other outside SELECT VALUE, SET and CASE.
"""

from __future__ import annotations

from typing import NoReturn

from . import tree
from .tokens import Token, fail, nearest, shown, tokenize
from .tree import Item, Literal, Node, Path, Query, Statement, Variable

depth_max = 64
nodes_max = 2_000

KEYWORDS = frozenset("SELECT FROM WHERE AS AND OR NOT TRUE FALSE NULL CASE IN".split())
_IN_CASE = frozenset("WHEN THEN ELSE END".split())
_AFTER_VALUE = frozenset("TRUE FALSE NULL NOT CASE".split())
_CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None}

# Words of other dialects, at places where no name can stand.
FOREIGN = {
    "LIKE": "AWS has startswith, endswith, indexof and regexp_matches",
    "BETWEEN": "write x >= low AND x <= high",
    "IS": "write x = NULL, or isUndefined(x) for a missing key",
    "DISTINCT": "a rule sees one message at a time",
    "GROUP": "a rule sees one message at a time; its window and statistic sum messages up",
    "HAVING": "a rule sees one message at a time; its threshold decides",
    "ORDER": "a rule sees one message at a time",
    "LIMIT": "a rule sees one message at a time",
    "OVER": "the rule's window is declared beside the statement",
    "JOIN": "a rule sees one message at a time",
    "INNER": "a rule sees one message at a time",
    "LEFT": "a rule sees one message at a time",
    "UNION": "write two rules",
}


def parse(text: str, where: str = "rule") -> Statement:
    """Parse a whole statement; raise ConfigError with the first fault, place and caret.

    The tree has at most `nodes_max` nodes and is at most `depth_max` deep.
    """
    parser = _Parser(text, where)
    statement = parser.statement()
    parser.check_size(statement)
    return statement


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.tokens = tokenize(text, where)
        self.index = 0
        self.depth = 0
        self.count = 0
        self.cases = 0  # how many CASE are open

    # What the tokens are.

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def ahead(self, count: int) -> Token:
        return self.tokens[min(self.index + count, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.token
        self.index += 1
        return token

    def sees(self, *texts: str) -> bool:
        """Whether the token is one of these keywords or signs; never a string of that text."""
        token = self.token
        if token.kind == "word":
            return token.value in texts
        return token.kind == "sign" and token.text in texts

    def accept(self, *texts: str) -> Token | None:
        return self.take() if self.sees(*texts) else None

    def expect(self, text: str, why: str = "") -> Token:
        return self.accept(text) or self.unexpected(text + why, (text,))

    def fail(self, at: int, message: str, hint: str = "") -> NoReturn:
        fail(self.text, at, self.where, message, hint)

    def unexpected(self, expected: str, keywords: tuple[str, ...] = ()) -> NoReturn:
        token = self.token
        if token.kind == "word" and token.value in FOREIGN:
            message = f"{token.value} does not exist in AWS IoT SQL"
            self.fail(token.at, message, FOREIGN[token.value])
        found = "the end" if token.kind == "end" else shown(token.text)
        hint = nearest(token.text, keywords) if token.kind == "word" else ""
        if token.text == "[":
            hint = "the items of an array are read with get(array, index)"
        if token.value == "NOT":
            hint = "write NOT before the whole comparison"
        self.fail(token.at, f"expected {expected}, found {found}", hint)

    # Clauses.

    def statement(self) -> Statement:
        at = self.token.at
        variables: list[tuple[Variable, Node]] = []
        if self.accept("SET"):
            variables.append(self.variable())
            while self.accept(","):
                variables.append(self.variable())
        query = self.query()
        if query.source is not None and not isinstance(query.source, Literal):
            self.fail(query.source.at, "expected a topic filter in quotes after FROM", "FROM 'a/b'")
        if self.token.kind != "end":
            if query.where is not None:
                self.unexpected("an operator or the end", ("AND", "OR"))
            if query.source is not None:
                self.unexpected("WHERE or the end", ("WHERE",))
            self.unexpected("a comma, AS, FROM, WHERE or the end", ("AS", "FROM", "WHERE"))
        return Statement(at, tuple(variables), query)

    def variable(self) -> tuple[Variable, Node]:
        if self.token.kind != "variable":
            self.unexpected("a variable such as @limit after SET")
        token = self.take()
        self.expect("=")
        return Variable(token.at, token.text[1:]), self.expression()

    def query(self) -> Query:
        at = self.expect("SELECT").at
        if self.sees("DISTINCT") and self.ahead(1).kind == "word":
            if self.ahead(1).value not in ("AS", "FROM", "WHERE"):
                self.unexpected("an item")
        bare = self.is_value_keyword()
        self.index += bare
        items = [self.item()]
        while comma := self.accept(","):
            if self.sees("FROM", "WHERE") or self.token.kind == "end":
                self.fail(comma.at, "expected another item after the comma", "drop the comma")
            items.append(self.item())
        source, name = self.source() if self.accept("FROM") else (None, None)
        where = self.expression() if self.accept("WHERE") else None
        return Query(at, tuple(items), bare, source, name, where)

    def is_value_keyword(self) -> bool:
        """Tell SELECT VALUE x from a key named `value`, by what follows."""
        if not self.sees("VALUE"):
            return False
        following, then = self.ahead(1), self.ahead(2)
        if following.kind == "word":
            return following.value in _AFTER_VALUE or following.value not in KEYWORDS
        if following.text == "*":
            return then.value in ("FROM", "WHERE", "AS") or then.text in ("", ")", ",")
        opens = following.text in ("(", "{", "[")
        return opens or following.kind in ("number", "string", "variable")

    def item(self) -> Item:
        if self.sees("FROM", "WHERE") or self.token.kind == "end":
            self.unexpected("*, a path or an expression after SELECT")
        at = self.token.at
        value = self.expression()
        alias = self.names("a name after AS") if self.accept("AS") else None
        return Item(at, value, alias)

    def names(self, expected: str) -> tuple[str, ...]:
        names = [self.name(expected)]
        while self.accept("."):
            names.append(self.name('a name after "."'))
        return tuple(names)

    def name(self, expected: str) -> str:
        if self.token.kind != "word":
            self.unexpected(expected)
        return self.take().text

    def source(self) -> tuple[Node, str | None]:
        token = self.token
        if token.kind == "string":
            self.take()
            return Literal(token.at, token.value), None
        if token.kind != "variable" and (token.kind != "word" or token.value in KEYWORDS):
            self.unexpected("a topic filter in quotes after FROM")
        source: Node
        if token.kind == "variable":
            source = self.members(Variable(self.take().at, token.text[1:]))
        else:
            source = Path(token.at, self.names("a path"))
        return source, self.name("a name after AS") if self.accept("AS") else None

    # Expressions.

    def expression(self, binding: int = tree.OR) -> Node:
        """Parse operators that bind at least as tight as `binding`."""
        self.depth += 1
        self.count += 1
        if self.depth > depth_max:
            self.fail(self.token.at, f"nested deeper than {depth_max} levels")
        if self.count > nodes_max:
            self.fail(self.token.at, f"a statement has at most {nodes_max:,} parts")
        left = self.prefix(binding)
        compared = False
        while True:
            token = self.token
            sign = "<>" if token.text == "!=" else str(token.value or token.text)
            found = {"AND": tree.AND, "OR": tree.OR}.get(sign) or tree.BINDING.get(sign, 0)
            if token.kind not in ("word", "sign") or found < binding or not found:
                break
            if found <= tree.AND:
                left = self.logic(left, sign, found)
                continue
            self.take()
            if compared and found == tree.COMPARISON:
                hint = "write a < b AND b < c"
                self.fail(token.at, "comparisons cannot be chained", hint)
            compared = compared or found == tree.COMPARISON
            left = tree.Binary(token.at, sign, left, self.expression(found + 1))
        self.depth -= 1
        return left

    def logic(self, left: Node, sign: str, binding: int) -> Node:
        at = self.token.at
        operands = [left]
        while self.accept(sign):
            operands.append(self.expression(binding + 1))
        return tree.Logic(at, sign, tuple(operands))

    def prefix(self, binding: int) -> Node:
        if self.sees("NOT"):
            at = self.token.at
            if binding > tree.NOT:
                self.fail(at, "expected a value, found NOT", "put NOT and its value in parentheses")
            self.take()
            return tree.Unary(at, "NOT", self.expression(tree.NOT))
        if minus := self.accept("-"):
            return tree.Unary(minus.at, "-", self.expression(tree.MINUS))
        return self.members(self.primary())

    def members(self, node: Node) -> Node:
        while dot := self.accept("."):
            node = tree.Member(dot.at, node, self.name('a name after "."'))
        return node

    def primary(self) -> Node:
        token = self.token
        if token.kind in ("number", "string"):
            return Literal(self.take().at, token.value)
        if token.kind == "variable":
            return Variable(self.take().at, token.text[1:])
        if token.kind == "word":
            return self.word()
        if self.accept("*"):
            return tree.Star(token.at)
        if self.accept("("):
            node = self.query() if self.sees("SELECT") else self.expression()
            self.expect(")")
            return node
        if self.accept("["):
            return tree.ArrayLiteral(token.at, self.listed("]"))
        if self.accept("{"):
            return self.object_literal(token.at)
        self.unexpected("a value")

    def word(self) -> Node:
        token = self.token
        called = self.ahead(1).text == "("
        if token.value in _CONSTANTS:
            return Literal(self.take().at, _CONSTANTS[token.value])
        if token.value == "CASE":
            return self.case()
        if token.value in KEYWORDS or (self.cases and token.value in _IN_CASE):
            self.unexpected("a value")
        if not called:
            return Path(token.at, self.names("a path"))
        self.index += 2
        if token.value == "CAST":
            return self.cast(token.at)
        if token.value == "EXISTS":
            query = self.query()
            self.expect(")")
            return tree.Exists(token.at, query)
        return tree.Call(token.at, token.text.lower(), self.listed(")"))

    def listed(self, end: str) -> tuple[Node, ...]:
        if self.accept(end):
            return ()
        nodes = [self.expression()]
        while self.accept(","):
            nodes.append(self.expression())
        self.expect(end, " or a comma")
        return tuple(nodes)

    def cast(self, at: int) -> Node:
        operand = self.expression()
        self.expect("AS")
        kind = self.name("a type after AS").lower()
        self.expect(")")
        return tree.Cast(at, operand, kind)

    def object_literal(self, at: int) -> Node:
        members: list[tuple[Literal, Node]] = []
        while not self.accept("}"):
            if members:
                self.expect(",", " or }")
            token = self.token
            if token.kind != "string":
                self.unexpected("a key in quotes")
            key = Literal(self.take().at, token.value)
            self.expect(":")
            members.append((key, self.expression()))
        return tree.ObjectLiteral(at, tuple(members))

    def case(self) -> Node:
        at = self.take().at
        if self.sees("WHEN"):
            hint = "write CASE value WHEN match THEN result END"
            self.fail(self.token.at, "CASE without a value does not exist in AWS IoT SQL", hint)
        self.cases += 1
        subject = self.expression()
        whens: list[tuple[Node, Node]] = []
        while not whens or self.sees("WHEN"):
            self.expect("WHEN")
            test = self.expression()
            self.expect("THEN")
            whens.append((test, self.expression()))
        otherwise = self.expression() if self.accept("ELSE") else None
        self.expect("END")
        self.cases -= 1
        return tree.Case(at, subject, tuple(whens), otherwise)

    def check_size(self, statement: Statement) -> None:
        """Refuse what later passes, which may recurse, could not bear."""
        count = 0
        level: list[Node] = [statement]
        for _ in range(depth_max):
            count += len(level)
            if count > nodes_max:
                self.fail(level[0].at, f"a statement has at most {nodes_max:,} parts")
            level = [part for node in level for part in node.parts]
        if level:
            self.fail(level[0].at, f"nested deeper than {depth_max} levels")
