"""What a statement may cost for one message: chains, doublings and nests end in an `Outcome`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from messages import Message as RowMessage
from messages import batch_of

from streamgauge.engine.batch import Kind, Verdict
from streamgauge.rules.compile import compile_rule
from streamgauge.rules.message import steps_max
from streamgauge.rules.rule import Message, Outcome, Rule
from streamgauge.rules.values import CostlyError, levels_max, parts_max


def chain(first: str, step: str, count: int) -> str:
    sets = [f"@a0 = {first}", *(step.format(f"@a{n}", f"@a{n - 1}") for n in range(1, count))]
    return f"SET {', '.join(sets)} SELECT @a{count - 1} AS x FROM '#'"


def outcome(sql: str, payload: Any) -> Outcome:
    return Rule(sql).apply(Message(json.dumps(payload).encode(), "a"))


def test_a_long_chain_of_variables_needs_no_deep_recursion() -> None:
    assert outcome(chain("a", "{} = {} + 1", 300), {"a": 1}).output == b'{"x":300}'
    assert outcome(chain("a", "{0} = {1} + {1}", 100), {"a": 1}).output == b'{"x":%d}' % 2**99


def test_doubled_arrays_come_to_an_end() -> None:
    grown = outcome(chain("[a, a]", "{0} = [{1}, {1}]", 300), {"a": 1})
    assert grown.kind == "error" and f"{parts_max:,} parts" in str(grown.error)
    spliced = outcome(chain("[a, a]", "{0} = concat({1}, {1})", 300), {"a": 1})
    assert spliced.kind == "error" or spliced.output == b"{}"
    members = outcome(chain("{'k': a}", "{0} = {{'k': {1}, 'l': {1}}}", 300), {"a": 1})
    assert members.kind == "error"


def test_doubled_texts_come_to_an_end() -> None:
    assert outcome(chain("a", "{0} = {1} + {1}", 300), {"a": "x"}).output == b"{}"


def test_one_text_many_times_is_no_output_without_end() -> None:
    many = outcome(chain("[a, a]", "{0} = [{1}, {1}]", 10), {"a": "x" * 100_000})
    assert many.kind == "error" and "bytes" in str(many.error)
    items = ", ".join(f"a AS x{n}" for n in range(300))
    many = outcome(f"SELECT {items} FROM '#'", {"a": "x" * 100_000})
    assert many.kind == "error" and "bytes" in str(many.error)


NEST = "(SELECT VALUE (SELECT VALUE n FROM e) FROM e)"


def test_nested_selects_come_to_an_end() -> None:
    short, long = [{"e": [1] * 5}] * 5, [{"e": [1] * 100}] * 100
    assert outcome(f"SELECT {NEST} AS x FROM '#'", {"e": short}).kind == "output"
    found = outcome(f"SELECT {NEST} AS x FROM '#'", {"e": long})
    assert found.kind == "error" and f"{steps_max:,} steps" in str(found.error)


def test_a_row_that_costs_too_much_is_rejected_and_the_others_go_on() -> None:
    where = "EXISTS (SELECT * FROM e WHERE EXISTS (SELECT * FROM e WHERE n = 1)) OR t > 1"
    rule = compile_rule(f"SELECT * FROM '#' WHERE {where}", "t", has_topic=False)
    costly = {"e": [{"e": [1] * 100}] * 100, "t": 2}
    batch = batch_of([RowMessage({"t": 2, "e": []}), RowMessage(costly)], rule.reads)
    assert rule.filter(batch).tolist() == [Verdict.PASS, Verdict.COSTLY]


def test_a_measure_that_costs_too_much_is_no_number() -> None:
    rule = compile_rule(f"SELECT get({NEST}, 0) AS v FROM '#'", "v", has_topic=False)
    batch = batch_of([RowMessage({"e": [{"e": [1] * 100}] * 100})], rule.reads)
    assert rule.measure(batch).kind.tolist() == [Kind.UNDEFINED]


@pytest.mark.parametrize("count", [1, 400])
def test_deep_values_of_a_payload_can_be_put_out(count: int) -> None:
    """Deeper than a payload may be: the message is passed on as bytes, its fields are Undefined."""
    deep = "[" * count + "]" * count
    payload = b'{"a": %b}' % deep.encode()
    found = Rule("SELECT a AS x, [a] AS y FROM '#'").apply(Message(payload, "a"))
    expected = b'{"x":%b,"y":[%b]}' % (deep.encode(), deep.encode())
    assert found.output == (expected if count < 128 else b"{}")


def test_arrays_within_arrays_come_to_an_end_before_the_stack_does() -> None:
    deep = ", ".join(["@a0 = a", *(f"@a{n} = [@a{n - 1}]" for n in range(1, 900))])
    for use in ("@a899", "@a899 = @a899", "[@a899] IN [@a899]", "'' + @a899"):
        found = outcome(f"SET {deep} SELECT {use} AS x FROM '#'", {"a": 1})
        assert found.kind == "error" and f"{levels_max:,} levels" in str(found.error)
    most = ", ".join(["@a0 = a", *(f"@a{n} = [@a{n - 1}]" for n in range(1, levels_max + 1))])
    found = outcome(f"SET {most} SELECT @a{levels_max} = @a{levels_max} AS x FROM '#'", {"a": 1})
    assert found.output == b'{"x":true}'


def test_a_message_counts_anew_for_each_statement() -> None:
    message = Message(json.dumps({"e": [{"n": 1}] * 600}).encode(), "a")
    rule = Rule("SELECT (SELECT VALUE n FROM e WHERE n > 1) AS x FROM '#'")
    assert [rule.apply(message).kind for _ in range(5)] == ["output"] * 5


def test_variables_that_were_given_up_are_none() -> None:
    rule = Rule("SET @a = 1, @b = [e], @c = 2 SELECT @c AS x FROM '#'")
    message = Message(json.dumps({"e": [1] * (parts_max + 1), "f": {}}).encode(), "a")
    template = rule.template("${(SELECT VALUE @c FROM f)}", "key")
    assert rule.apply(message).kind == "error"
    with pytest.raises(CostlyError):
        template.fill(message)
