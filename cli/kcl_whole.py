"""Has the KCL hand on Kinesis records as they lie in the stream: it is not to open aggregates.

The KCL's own way loses records. It drops an aggregate whole, without a word, if one of its user
records lies outside the hash range of the shard, and ends (or with one more jar: drops the rest) at
a key index out of range; by then both are behind its checkpoint. The engine opens them without any
loss, so the daemon need not. No property turns that off, but every version asks one class,
`AggregatorUtil`, to do it. Java takes a class from the first place of its class path that has it:
there lies one of ours, of that name, whose methods give back what they were given.

It is written here byte by byte, as the Java Virtual Machine Specification (SE 8), chapter 4, has
it: no compiler is at hand where this runs. A KCL that asks the class for more than that fails at
once, by a NoSuchMethodError, and not in silence.
"""

from __future__ import annotations

import struct
from pathlib import Path

NAME = "software/amazon/kinesis/retrieval/AggregatorUtil"
LIST, STRING, BIG = (f"Ljava/{name};" for name in ("util/List", "lang/String", "math/BigInteger"))
MAGIC, JAVA_8 = 0xCAFEBABE, 52
PUBLIC, PUBLIC_SUPER = 0x0001, 0x0021
UTF8, CLASS, METHOD_REF, NAME_AND_TYPE = 1, 7, 10, 12  # tags of the pool of constants
ALOAD_0, ALOAD_1, INVOKESPECIAL, ARETURN, RETURN = 0x2A, 0x2B, 0xB7, 0xB0, 0xB1


class _Pool:
    """The constants of a class, each held once and known by its number, from 1 on."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def _add(self, entry: bytes) -> int:
        return self._numbers.setdefault(entry, len(self._numbers) + 1)

    def text(self, text: str) -> int:
        data = text.encode()
        return self._add(struct.pack(">BH", UTF8, len(data)) + data)

    def of_class(self, name: str) -> int:
        return self._add(struct.pack(">BH", CLASS, self.text(name)))

    def method(self, owner: str, name: str, kind: str) -> int:
        pair = struct.pack(">BHH", NAME_AND_TYPE, self.text(name), self.text(kind))
        return self._add(struct.pack(">BHH", METHOD_REF, self.of_class(owner), self._add(pair)))

    def packed(self) -> bytes:
        return struct.pack(">H", len(self._numbers) + 1) + b"".join(self._numbers)


def class_file() -> bytes:
    """The class: a constructor, and three methods that give back their first argument."""
    pool = _Pool()
    this, above = pool.of_class(NAME), pool.of_class("java/lang/Object")
    start = pool.method("java/lang/Object", "<init>", "()V")
    made = struct.pack(">BBHB", ALOAD_0, INVOKESPECIAL, start, RETURN)
    methods = [_method(pool, "<init>", "()V", 1, made)]
    for more in ("", STRING * 2, BIG * 2):
        kind = f"({LIST}{more}){LIST}"
        locals_ = 2 + (2 if more else 0)  # `this`, and each argument
        methods.append(_method(pool, "deaggregate", kind, locals_, bytes([ALOAD_1, ARETURN])))
    body = struct.pack(">HHHHHH", PUBLIC_SUPER, this, above, 0, 0, len(methods))
    body += b"".join(methods) + struct.pack(">H", 0)
    return struct.pack(">IHH", MAGIC, 0, JAVA_8) + pool.packed() + body


def _method(pool: _Pool, name: str, kind: str, locals_: int, code: bytes) -> bytes:
    """A public method; of the stack it needs one place."""
    attribute = struct.pack(">HHI", 1, locals_, len(code)) + code + struct.pack(">HH", 0, 0)
    head = struct.pack(">HHHH", PUBLIC, pool.text(name), pool.text(kind), 1)
    return head + struct.pack(">HI", pool.text("Code"), len(attribute)) + attribute


def write(folder: Path) -> None:
    """Write the class below a folder, which is to come first in the class path."""
    path = folder / f"{NAME}.class"
    path.parent.mkdir(parents=True)
    path.write_bytes(class_file())
