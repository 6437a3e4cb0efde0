"""Templates as Python values, and as YAML: the functions of CloudFormation that are used here.

The emitter writes what the templates hold (dicts, lists, text, whole numbers, booleans), in their
order, and nothing cleverer. Text is quoted wherever YAML might read it as something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Node = dict[str, Any]
_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9_./();,'-]|:(?=\S)| (?=[^# ]))*")
_OTHER_THAN_TEXT = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
NO_VALUE: Node = {"Ref": "AWS::NoValue"}


def ref(name: str) -> Node:
    """The value of a parameter, or what names a resource."""
    return {"Ref": name}


def att(name: str, attribute: str = "Arn") -> Node:
    """An attribute of a resource."""
    return {"Fn::GetAtt": [name, attribute]}


def sub(text: str) -> Node:
    """Text with `${Name}` and `${Name.Attribute}` in it; `literal` is for text of others."""
    return {"Fn::Sub": text}


def literal(text: str) -> str:
    """Text as it stands within `sub`."""
    return text.replace("${", "${!")


def choose(condition: str, yes: Any, no: Any = NO_VALUE) -> Node:
    """One value where a condition holds, else another, or none."""
    return {"Fn::If": [condition, yes, no]}


def resource(kind: str, properties: Node, **attributes: Any) -> Node:
    """One resource; attributes are Condition, DeletionPolicy and the like."""
    return {"Type": kind, **attributes, "Properties": properties}


def kept(kind: str, properties: Node, **attributes: Any) -> Node:
    """A resource that outlives its stack: what it holds cannot be made again."""
    return resource(
        kind, properties, **attributes, DeletionPolicy="Retain", UpdateReplacePolicy="Retain"
    )


def excused(node: Node, **reasons: str) -> Node:
    """The same resource with checks of checkov that it does not meet, each with its reason."""
    skipped = [{"id": check, "comment": reason} for check, reason in reasons.items()]
    return {**node, "Metadata": {"checkov": {"skip": skipped}}}


def yaml(template: Node, head: Sequence[str] = ()) -> str:
    """A template as YAML, below lines of comment."""
    lines = [f"# {line}".rstrip() for line in head]
    return "\n".join([*lines, *_mapping(template, 0)]) + "\n"


def _mapping(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key, value in node.items():
        yield from _entry(f"{'  ' * depth}{_scalar(key)}:", value, depth)


def _entry(head: str, value: Any, depth: int) -> Iterator[str]:
    """A key, or the dash of a list, with what belongs to it."""
    short = _short(value)
    if short is not None:
        yield f"{head} {short}"
    elif isinstance(value, str):  # of several lines
        yield f"{head} |-"
        yield from (f"{'  ' * (depth + 1)}{line}".rstrip() for line in value.split("\n"))
    elif isinstance(value, Mapping) and value.keys() == {"Fn::Sub"}:
        yield from _entry(f"{head} !Sub", value["Fn::Sub"], depth)
    elif isinstance(value, Mapping):
        yield head
        yield from _mapping(value, depth + 1)
    else:
        yield head
        for item in value:
            yield from _item(item, depth + 1)


def _item(value: Any, depth: int) -> Iterator[str]:
    dash = f"{'  ' * depth}-"
    if _short(value) is not None or not isinstance(value, Mapping):
        yield from _entry(dash, value, depth)
        return
    first, *rest = _mapping(value, depth + 1)
    yield f"{dash} {first.lstrip()}"
    yield from rest


def _short(value: Any) -> str | None:
    """A value that fits on the line of its key; None: it does not."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return None if _is_block(value) else _scalar(value)
    if isinstance(value, Mapping) and len(value) == 1:
        ((function, of),) = value.items()
        if function == "Ref":
            return f"!Ref {_scalar(of)}"
        if function == "Fn::GetAtt":
            return f"!GetAtt {'.'.join(of)}"
        if function == "Fn::Sub" and not _is_block(of):
            return f"!Sub {_quoted(of)}"
    if isinstance(value, (Mapping, list)) and not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    return None


def _is_block(text: str) -> bool:
    """Whether text can stand as lines of its own, and is easier to read so."""
    lines = text.split("\n")
    plain = all(line.isprintable() and line == line.rstrip() for line in lines)
    return len(lines) > 1 and plain and lines[0] == lines[0].lstrip() != "" != lines[-1]


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_THAN_TEXT:
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    """Text as JSON has it, but for what YAML takes for the end of a line or does not print."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08X}" for one in quoted)
