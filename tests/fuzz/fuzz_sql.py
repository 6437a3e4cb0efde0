"""Statements, templates and payloads by chance, guided by coverage: `make fuzz`.

    python tests/fuzz/fuzz_sql.py [--seconds 60]

Half of the time goes to the text of statements and templates, half to payloads under statements
that hold every form of the language. What may come out: a ConfigError for a statement, an `Outcome`
for a message. Anything else ends the run with status 1 and prints the input: another exception, a
statement that takes longer than `statement_seconds_max` or a message longer than
`message_seconds_max`, and more memory than `memory_megabytes_max`.

The limits of time are far above what is promised (docs/iot-sql.md), as the code runs under
instrumentation and the machine may be busy; they find what grows without bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator

statement_seconds_max = 5.0
message_seconds_max = 2.0
memory_megabytes_max = 1024
input_bytes_max = 4096

WORDS = (
    "SELECT FROM WHERE AS AND OR NOT TRUE FALSE NULL CASE WHEN THEN ELSE END IN EXISTS CAST SET "
    "VALUE a b c.d @v * ( ) [ ] { } , . : = <> != < <= > >= + - * / % 'x' '' \"y\" 1 2.5 0 1E9 "
    "1E-999 String Int Decimal Boolean '#' 'a/+/b' ${ } abs( concat( get( encode( decode( "
    "substring( regexp_replace( parse_time( time_to_epoch( lpad( transform( 'enrichArray' "
    "'base64' 'yyyy-MM-dd' topic( power( bitnot( trunc( nanvl( timestamp() newuuid()"
).split()

STATEMENTS = (
    "SELECT * FROM '#' WHERE a > b AND NOT c = 'x' OR a + b * 2 / c - d % 3 < -e",
    "SELECT CASE a WHEN b THEN 1 WHEN 'x' THEN c ELSE [a, b, {'k': c}] END AS x, a.b AS y.z, *",
    "SET @v = (SELECT VALUE a FROM b WHERE c <> 1), @w = get(@v, 0) SELECT @v AS v, @w.x AS w",
    "SELECT (SELECT *, a + 1 AS n FROM a AS e WHERE e IN [1, 'x'] OR EXISTS (SELECT b FROM c)) "
    "AS x",
    "SELECT VALUE concat(a, b, [c], cast(a AS String), cast(b AS Decimal), cast(c AS Boolean))",
    "SELECT encode(*, 'base64') AS e, decode(a, 'base64') AS d, get(*, 'my-key') AS g",
    "SELECT lower(a) AS l, substring(a, b, c) AS s, regexp_replace(a, b, c) AS r, lpad(a, b) AS p, "
    "replace(a, b, c) AS q, indexof(a, b) AS i, length(a) AS n, trim(a) AS t",
    "SELECT regexp_matches(a, b) AS m, regexp_substr(a, b) AS s, md2(a) AS h, sha256(b) AS k",
    "SELECT round(a) AS r, trunc(a, b) AS t, power(a, b) AS p, bitand(a, b) AS x, mod(a, b) AS m, "
    "atan2(a, b) AS y, exp(a) AS e, chr(a) AS c",
    "SELECT parse_time(a, b, c) AS p, time_to_epoch(a, b) AS e, "
    "transform('enrichArray', a, b) AS t",
    "SELECT a - b - c AS x WHERE [a, b] = c AND {'a': a} <> b AND isUndefined(d) = nanvl(e, false)",
)


SCALARS = (None, True, False, 0, 1, -1, 2**53 + 1, 10**33, 10**40, 0.1, 1e-7, 1e300, 5e-324, 2.5)
TEXTS = (
    *(
        "",
        "true",
        "FALSE",
        "5",
        "-1.5e3",
        "1e999",
        "abc",
        "a|b",
        "(a+)+$",
        "(?<n>x)",
        "[[a-z]&&[b]]",
    ),
    *("$1", "${n}", "\\d{2,}", "base64", "eyJhIjoxfQ==", "\u00e9\u4e2d\U0001f600", "x" * 2000),
    *("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "G C YY xxxx ww e EEEE D MMMM a K h k z ZZ ZZZ", "VV [z] X O"),
    *("UTC", "Europe/Berlin", "2020-04-03 09:45:18 UTC+01:00", "2015-12-18", "enrichArray"),
)


def statements(data: bytes) -> None:
    """Compile a text as a statement and as a template; apply what can be applied."""
    if data[:1] < b"\x80":
        text = data[1:].decode("utf-8", "surrogateescape")
    else:  # words of the language, by their numbers
        text = " ".join(WORDS[byte % len(WORDS)] for byte in data[1:])
    for version in VERSIONS:
        began = time.perf_counter()
        try:
            rule = Rule(text, version=version)
        except ConfigError as error:
            str(error)
        else:
            spent = time.perf_counter() - began
            assert spent < statement_seconds_max, f"compiled in {spent:.1f} s"
            apply(rule, b'{"a": [1, {"b": "x"}], "b": 2.5, "c": {"d": null}, "v": "1"}')
            assert str(rule.statement)
    try:
        PLAIN.template(text, "template").fill(Message(b"{}"), path_segment)
    except ConfigError as error:
        str(error)


def payloads(data: bytes) -> None:
    """Apply every form of the language to a message: bytes as they are, or JSON made of them."""
    if data[:1] >= b"\x20":
        rest = iter(data[1:])
        members = {name: value(rest, 0) for name in "abcde"}
        data = json.dumps(members).encode()
    for rule in RULES:
        apply(rule, data)


def value(rest: Iterator[int], depth: int) -> object:
    """Make a JSON value of the bytes that are left."""
    byte = next(rest, 0)
    kind, size = byte % 8, byte // 8
    if kind < 2 and depth < 8:
        items = [value(rest, depth + 1) for _ in range(size % 4)]
        return items if kind else {"abcdn"[n % 5]: item for n, item in enumerate(items)}
    if kind == 2:
        return SCALARS[size % len(SCALARS)]
    if kind == 3:
        return TEXTS[size % len(TEXTS)]
    if kind == 4:
        return size * 1000 - 16_000
    if kind == 5:
        return (size - 16) * 10.0 ** (next(rest, 0) - 128)
    return bytes(next(rest, 65) for _ in range(size)).decode("latin-1")


def apply(rule: Rule, payload: bytes) -> None:
    """One message; its outcome has a kind, and its output can be read."""
    began = time.perf_counter()
    outcome = rule.apply(Message(payload, "a/b/c", {"timestamp": 1}))
    spent = time.perf_counter() - began
    assert outcome.kind in ("output", "not_triggered", "no_action", "error"), outcome
    assert spent < message_seconds_max, f"{rule.statement} took {spent:.1f} s"


def main() -> int:
    """Run each half in a process of its own: the fuzzer ends the process that it runs in."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--half", choices=("statements", "payloads"))
    options = parser.parse_args()
    if options.half:
        limits = [
            f"-max_total_time={options.seconds}",
            f"-rss_limit_mb={memory_megabytes_max}",
            f"-max_len={input_bytes_max}",
            "-timeout=20",
            "-print_final_stats=1",
            "-verbosity=0",
            "-artifact_prefix=.fuzz-",
        ]
        atheris.Setup([sys.argv[0], *limits], globals()[options.half])
        atheris.Fuzz()
        return 0
    worst = 0
    for half in ("statements", "payloads"):
        seconds = str(max(options.seconds // 2, 1))
        command = [sys.executable, __file__, "--half", half, "--seconds", seconds]
        status = subprocess.run(command, check=False).returncode
        print(f"fuzz: {half}: {'passed' if status == 0 else 'FAILED'}", flush=True)
        worst = max(worst, status)
    return 1 if worst else 0


if __name__ == "__main__":
    if "--half" in sys.argv:
        import atheris

        with atheris.instrument_imports(include=["streamgauge"]):
            from streamgauge.engine.errors import ConfigError
            from streamgauge.rules.interpret import VERSIONS
            from streamgauge.rules.rule import Message, Rule
            from streamgauge.rules.template import path_segment
        PLAIN = Rule("SET @v = 1 SELECT *")
        RULES = [Rule(text, version=VERSIONS[0]) for text in STATEMENTS]
    sys.exit(main())
