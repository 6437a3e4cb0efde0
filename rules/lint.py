"""What is legal in a statement but cannot be meant: each finding is provably so.

    x > 'warm'            always Undefined: there is no order of texts
    x > 5 AND x < 3       never true
    NOT 5, 5 AND x        always Undefined
    lower(x) = 1          never true: nothing converts
    abs(a, b)             always Undefined: abs takes one argument

The types of parts are inferred from literals, casts and functions; what a path holds is not known,
and nothing is said about it. `findings` takes a statement as it was parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from msgspec import UNSET

from . import tree
from .functions import WHOLE_RESULTS
from .interpret import CASTS
from .tokens import shown
from .tree import Binary, Call, Cast, Literal, Logic, Node, Statement, Unary
from .values import ORDER, number_of, truth_of

NUMBER, TEXT, TRUTH, NULL, ARRAY, OBJECT = "number", "text", "Boolean", "Null", "array", "object"

# How many arguments a function takes: at least, at most. Others take what they are given.
ARGUMENTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(
        "abs acos asin atan bitnot ceil chr cos cosh exp floor isnull isundefined length ln log "
        "lower ltrim md2 md5 numbytes round rtrim sha1 sha224 sha256 sha384 sha512 sign sin sinh "
        "sqrt tan tanh trim upper get_mqtt_property".split(),
        (1, 1),
    ),
    **dict.fromkeys(
        "atan2 bitand bitor bitxor encode endswith get indexof lpad mod nanvl power "
        "regexp_matches regexp_substr remainder rpad startswith time_to_epoch trunc".split(),
        (2, 2),
    ),
    **dict.fromkeys("regexp_replace replace transform".split(), (3, 3)),
    **dict.fromkeys(
        "accountid clientid newuuid principal rand sourceip sql_version timestamp traceid".split(),
        (0, 0),
    ),
    "get_or_default": (1, 2),
    "get_user_properties": (0, 1),
    "parse_time": (2, 3),
    "substring": (2, 3),
    "topic": (0, 1),
}

_OF_FUNCTION = {
    **dict.fromkeys(WHOLE_RESULTS, NUMBER),
    **dict.fromkeys("abs sqrt exp ln log power mod remainder trunc rand".split(), NUMBER),
    **dict.fromkeys("sin cos tan asin acos atan atan2 sinh cosh tanh".split(), NUMBER),
    **dict.fromkeys("lower upper ltrim rtrim trim lpad rpad substring replace chr".split(), TEXT),
    **dict.fromkeys("md2 md5 sha1 sha224 sha256 sha384 sha512 encode parse_time".split(), TEXT),
    **dict.fromkeys("regexp_replace regexp_substr topic clientid newuuid".split(), TEXT),
    **dict.fromkeys("isnull isundefined startswith endswith regexp_matches".split(), TRUTH),
    "transform": ARRAY,
}


class Finding(NamedTuple):
    """One place of a statement, what is the matter there, and what may have been meant."""

    at: int
    message: str
    hint: str = ""


def findings(statement: Statement) -> Iterator[Finding]:
    """Yield what cannot be meant, in the order of the text."""
    for node in tree.walk(statement):
        if isinstance(node, Binary):
            yield from _binary(node)
        elif isinstance(node, Logic):
            yield from _logic(node)
        elif isinstance(node, Unary) and node.sign == "NOT":
            yield from _operands("NOT", [node.operand])
        elif isinstance(node, Call):
            yield from _call(node)
    where = statement.query.where
    if isinstance(where, Literal):
        truth = truth_of(where.value)
        if truth is True:
            yield Finding(where.at, "WHERE is always true", "leave it out")
        else:
            yield Finding(where.at, "WHERE is never true: no message passes")


def kind_of(node: Node) -> str | None:
    """Return the type of what an expression gives where it gives anything; None: not known."""
    if isinstance(node, Literal):
        return _kind_of_value(node.value)
    if isinstance(node, Cast):
        kinds = {"string": TEXT, "boolean": TRUTH}
        return kinds.get(CASTS.get(node.type, ""), NUMBER)
    if isinstance(node, Call):
        return _OF_FUNCTION.get(node.name)
    if isinstance(node, Unary):
        return TRUTH if node.sign == "NOT" else NUMBER
    if isinstance(node, Logic | tree.Exists):
        return TRUTH
    if isinstance(node, tree.ArrayLiteral):
        return ARRAY
    if isinstance(node, tree.ObjectLiteral):
        return OBJECT
    if isinstance(node, Binary):
        return _kind_of_binary(node)
    return None


def _kind_of_value(value: object) -> str | None:
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, Decimal):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    return NULL if value is None else None


def _kind_of_binary(node: Binary) -> str | None:
    if node.binding == tree.COMPARISON:
        return TRUTH
    if node.sign != "+":
        return NUMBER
    kinds = {kind_of(node.left), kind_of(node.right)}
    if TEXT in kinds:
        return TEXT
    return NUMBER if kinds == {NUMBER} else None


def _binary(node: Binary) -> Iterator[Finding]:
    left, right = kind_of(node.left), kind_of(node.right)
    if node.sign in ORDER:
        for side, kind in ((node.left, left), (node.right, right)):
            if why := _no_number(side, kind):
                hint = "compare texts with = or <>, or use startswith" if kind == TEXT else ""
                yield Finding(side.at, f"{node.sign} with {why} is always Undefined", hint)
    elif node.sign in ("=", "<>"):
        if left and right and left != right:
            what = f"{_a(left)} and {_a(right)} are never equal, as nothing converts here"
            hint = "cast one of them" if {left, right} == {NUMBER, TEXT} else ""
            yield Finding(node.at, what, hint)
    elif node.sign == "IN":
        if right not in (None, ARRAY):
            yield Finding(
                node.right.at, f"IN of {_a(right)} is always Undefined: it takes an array"
            )
        elif isinstance(node.right, tree.ArrayLiteral) and not node.right.items:
            yield Finding(node.right.at, "IN of an empty array is never true")
    else:
        yield from _arithmetic(node, left, right)


def _arithmetic(node: Binary, left: str | None, right: str | None) -> Iterator[Finding]:
    if node.sign == "+" and TEXT in (left, right):
        for side, other in ((node.left, node.right), (node.right, node.left)):
            text = isinstance(side, Literal) and kind_of(side) == TEXT
            if text and kind_of(other) == NUMBER and number_of(side.value) is not UNSET:  # type: ignore[attr-defined]
                hint = "write the number without quotes to add it"
                yield Finding(side.at, "+ with a text joins texts, it does not add", hint)
        return
    for side, kind in ((node.left, left), (node.right, right)):
        if why := _no_number(side, kind):
            yield Finding(side.at, f"{node.sign} with {why} is always Undefined")
    divides = node.sign in "/%" and isinstance(node.right, Literal)
    if divides and node.right.value == 0 and right == NUMBER:  # type: ignore[attr-defined]
        yield Finding(node.right.at, "division by zero is always Undefined")


def _no_number(side: Node, kind: str | None) -> str:
    """Say what an operand is that can never be a number, or return an empty text."""
    if kind in (TRUTH, NULL, ARRAY, OBJECT):
        return _a(kind)
    if kind == TEXT and isinstance(side, Literal) and number_of(side.value) is UNSET:
        return f"the text '{shown(str(side.value))}'"
    return ""


def _logic(node: Logic) -> Iterator[Finding]:
    yield from _operands(node.sign, node.operands)
    if node.sign == "AND":
        yield from _ranges(node)


def _operands(sign: str, operands: list[Node] | tuple[Node, ...]) -> Iterator[Finding]:
    for operand in operands:
        kind = kind_of(operand)
        text = isinstance(operand, Literal) and kind == TEXT
        if text and truth_of(operand.value) is not UNSET:  # type: ignore[attr-defined]
            continue
        if kind in (NUMBER, NULL, ARRAY, OBJECT) or text:
            what = f"{sign} of {_a(kind or TEXT)} is Undefined: it takes Booleans"
            yield Finding(operand.at, what, "compare it with something")


def _ranges(node: Logic) -> Iterator[Finding]:
    """Find two bounds of one expression that no number keeps."""
    low: dict[Node, tuple[Decimal, bool]] = {}
    high: dict[Node, tuple[Decimal, bool]] = {}
    for operand in node.operands:
        bound = _bound(operand)
        if bound is None:
            continue
        subject, sign, limit = bound
        strict = "=" not in sign
        if sign[0] == "=":
            pairs = [(low, False), (high, False)]
        else:
            pairs = [(low if sign[0] == ">" else high, strict)]
        for side, excluded in pairs:
            held = side.get(subject)
            tighter = held is None or (limit > held[0] if side is low else limit < held[0])
            if tighter or (held is not None and limit == held[0] and excluded):
                side[subject] = (limit, excluded)
        if subject in low and subject in high:
            (least, above), (most, below) = low[subject], high[subject]
            if least > most or (least == most and (above or below)):
                what = f"no number is within these bounds of {shown(str(subject))}"
                yield Finding(operand.at, f"{what}: AND is never true")
                return


def _bound(node: Node) -> tuple[Node, str, Decimal] | None:
    """Return (expression, sign, limit) of a comparison with a number."""
    if not isinstance(node, Binary) or node.sign not in (*ORDER, "="):
        return None
    left, right, sign = node.left, node.right, node.sign
    if isinstance(left, Literal):
        left, right = right, left
        sign = sign.translate({ord("<"): ">", ord(">"): "<"})
    if isinstance(right, Literal) and isinstance(right.value, Decimal):
        return left, sign, right.value
    return None


def _call(node: Call) -> Iterator[Finding]:
    if node.name not in ARGUMENTS or node.name == "topic":  # check.py tells of topic()
        return
    least, most = ARGUMENTS[node.name]
    if not least <= len(node.arguments) <= most:
        takes = {0: "no argument", 1: "one argument"}.get(most, f"{most} arguments")
        if least != most:
            takes = f"{least} to {most} arguments"
        found = len(node.arguments)
        yield Finding(node.at, f"{node.name}() takes {takes}, this has {found}: always Undefined")


def _a(kind: str) -> str:
    if kind == NULL:
        return "NULL"
    return f"an {kind}" if kind[0] in "ao" else f"a {kind}"
