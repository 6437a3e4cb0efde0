"""The parser: what prints back, what is refused and where the caret stands."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.engine.errors import ConfigError, Problem
from streamgauge.rules import tree
from streamgauge.rules.compile import compile_rule
from streamgauge.rules.sql import parse
from streamgauge.rules.values import exact

FOLDER = Path(__file__).parent
IDENTITY = [
    line
    for line in (FOLDER / "identity.sql").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("--")
]


def refused() -> Iterator[tuple[str, list[str]]]:
    """The cases of errors.sql: a statement, and the lines below it."""
    for block in (FOLDER / "errors.sql").read_text(encoding="utf-8").split("\n\n"):
        lines = block.rstrip("\n").split("\n")
        while lines and lines[0].startswith("--"):
            lines.pop(0)
        if lines:
            yield lines[0], lines[1:]


@pytest.mark.parametrize("text", IDENTITY)
def test_a_statement_prints_back(text: str) -> None:
    assert str(parse(text)) == text


def rendered(problem: Problem) -> list[str]:
    """The two lines of errors.sql for one problem."""
    mark = "!" if problem.severity == "error" else "~"
    hint = f" ({problem.hint})" if problem.hint else ""
    return [problem.excerpt.split("\n")[1], f"{mark} {problem.message}{hint}"]


@pytest.mark.parametrize(("text", "expected"), list(refused()), ids=lambda value: str(value)[:60])
def test_a_fault_is_named_where_it_stands(text: str, expected: list[str]) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        problems = compile_rule(text, "a", has_topic=True).warnings
    except ConfigError as error:
        problems = error.problems
    problems = tuple(found for found in problems if found.where != "rule.measure")
    assert [line for problem in problems for line in rendered(problem)] == expected
    for problem in problems:
        column = problem.excerpt.split("\n")[1].index("^") + 1
        assert problem.where == f"rule.sql: line 1, column {column}"
        assert problem.excerpt.split("\n")[0] == text


def problem_of(text: str) -> Problem:
    """The one problem of a statement."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "rules.hot.sql")
    (problem,) = caught.value.problems
    return problem


def test_lines_and_columns_count_from_one() -> None:
    problem = problem_of("SELECT *\nFROM '#'\r\n\tWHERE a ! b")
    assert problem.where == "rules.hot.sql: line 3, column 10"
    assert problem.excerpt == " WHERE a ! b\n         ^"


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_statement_is_refused(text: str) -> None:
    assert problem_of(text).message == "expected SELECT, found the end"


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = "SELECT * FROM '#' WHERE " + "aaaa + " * 100 + "! + " + "b + " * 100
    first, second = problem_of(text).excerpt.split("\n")
    assert len(first) <= 98
    assert first[0] == first[-1] == "\u2026"
    assert first[second.index("^")] == "!"


def test_wide_characters_move_the_caret_as_far_as_they_reach() -> None:
    first, second = problem_of("SELECT * FROM '温度' WHERE !").excerpt.split("\n")
    assert second.index("^") == first.index("!") + 2


def test_control_characters_do_not_reach_the_terminal() -> None:
    problem = problem_of("SELECT * FROM 'a\x1b[31m' WHERE '\x07' !")
    assert problem.excerpt.isprintable() or set(problem.excerpt) & {"\x1b", "\x07"} == set()


def test_positions_do_not_count_in_comparing_trees() -> None:
    assert parse("select  a from '#' where ( a>1 )") == parse("SELECT a FROM '#' WHERE a > 1")


def test_and_and_or_take_all_operands_of_a_chain() -> None:
    where = parse("SELECT * WHERE a AND b AND c OR d OR e").query.where
    assert isinstance(where, tree.Logic) and where.sign == "OR" and len(where.operands) == 3


def test_value_is_a_keyword_only_where_an_expression_follows() -> None:
    for text in ("value", "value, a", "value AS x", "value.a", "value * 2 AS x", "value - 1 AS x"):
        assert not parse(f"SELECT {text} FROM '#'").query.bare
    for text in ("a", "*", "'x'", "1", "@v", "(SELECT a FROM b)", "[1]", "{}", "NOT a", "f(x)"):
        assert parse(f"SELECT VALUE {text} FROM '#'").query.bare


def expressions() -> st.SearchStrategy[tree.Node]:
    """Trees of every form that an expression can have."""
    literal = st.sampled_from([True, False, None, "", "it's", '"', 0, 7, 0.25, 1e-9, 10**20])
    leaf = st.one_of(
        literal.map(lambda value: tree.Literal(0, exact(value))),
        st.sampled_from([("a",), ("a", "b"), ("set", "end"), ("value",)]).map(
            lambda names: tree.Path(0, names)
        ),
        st.just(tree.Star(0)),
        st.just(tree.Variable(0, "v")),
    )
    return st.recursive(leaf, forms, max_leaves=12)


def forms(inner: st.SearchStrategy[tree.Node]) -> st.SearchStrategy[tree.Node]:
    """The forms that hold other expressions."""
    several = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(tree.Unary, st.just(0), st.sampled_from(["NOT", "-"]), inner),
        st.builds(tree.Binary, st.just(0), st.sampled_from(sorted(tree.BINDING)), inner, inner),
        st.builds(tree.Logic, st.just(0), st.sampled_from(["AND", "OR"]), operands(inner)),
        st.builds(tree.Call, st.just(0), st.sampled_from(["topic", "f"]), several),
        st.builds(tree.Cast, st.just(0), inner, st.just("int")),
        st.builds(tree.Member, st.just(0), inner.filter(holds_members), st.just("m")),
        st.builds(tree.ArrayLiteral, st.just(0), several),
        st.builds(tree.Case, st.just(0), inner, st.tuples(st.tuples(inner, inner)), inner),
        st.builds(query, inner, inner),
    )


def operands(inner: st.SearchStrategy[tree.Node]) -> st.SearchStrategy[tuple[tree.Node, ...]]:
    """Two or three operands; a chain that begins with one of its own sign would be longer."""
    return st.lists(inner, min_size=2, max_size=3).map(
        lambda nodes: tuple(
            tree.Unary(0, "NOT", node) if isinstance(node, tree.Logic) else node for node in nodes
        )
    )


def holds_members(node: tree.Node) -> bool:
    """Whether a dot after the node is a member of it, and not a longer path or a number's point."""
    return not isinstance(node, tree.Path | tree.Literal)


def query(value: tree.Node, where: tree.Node) -> tree.Query:
    """A nested SELECT around two expressions."""
    items = (tree.Item(0, value, ("x", "y")), tree.Item(0, tree.Star(0), None))
    return tree.Query(0, items, False, tree.Path(0, ("list",)), "e", where)


@given(expressions())
def test_every_tree_prints_as_a_text_that_gives_it_back(node: tree.Node) -> None:
    text = f"SELECT * WHERE {node.alone}"
    where = parse(text).query.where
    assert where == node
    assert str(parse(text)) == text


def test_every_node_knows_its_parts() -> None:
    """A part that is forgotten would pass every check unseen."""
    node = parse(
        "SET @a = z SELECT CASE a WHEN b THEN c ELSE d END AS x FROM '#' WHERE EXISTS "
        "(SELECT {'k': e} FROM f AS g WHERE [h, CAST(i AS int)] IN j(k, -l).m AND n)"
    )
    text = "".join(str(found) for found in tree.walk(node) if isinstance(found, tree.Path))
    assert sorted(text) == list("abcdefhiklnz")
    for found in tree.walk(node):
        held = [getattr(found, field.name) for field in dataclasses.fields(found)]
        nodes = [value for value in held if isinstance(value, tree.Node)]
        assert all(value in found.parts for value in nodes)
