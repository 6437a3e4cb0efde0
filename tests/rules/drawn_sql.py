"""Expressions of every form of the language, and columns of every type, by chance."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules import tree
from streamgauge.rules.functions import DRAWN, FUNCTIONS
from streamgauge.rules.interpret import CASTS, Dialect

PATHS = ("a", "b", "c")
ROWS = 6
TEXTS = ("true", "FALSE", "5", "0.1", "-2", "1e3", "abc", "ABC", "", "a", "b|c", "base64", "$1")
NUMBERS = "0 1 2 3 5 -1 10 0.1 0.5 1.5 2.5 1.8 32 9 1E-7 9007199254740993 1E300".split()

NAMES = sorted({*FUNCTIONS, *DRAWN} - {"topic"})

paths = st.sampled_from(PATHS).map(lambda name: tree.Path(0, (name,)))
members = st.sampled_from(["x", "y"]).map(lambda name: tree.Path(0, ("c", name)))
number_literals = st.sampled_from(NUMBERS).map(lambda text: tree.Literal(0, Decimal(text)))
literals = st.one_of(
    number_literals,
    st.sampled_from([*TEXTS, True, False, None]).map(lambda value: tree.Literal(0, value)),
)
topics = st.sampled_from([(), ("1",), ("2",), ("9",)]).map(
    lambda given: tree.Call(0, "topic", tuple(tree.Literal(0, Decimal(n)) for n in given))
)
leaves = st.one_of(paths, paths, paths, members, literals, topics)


def forms(inner: st.SearchStrategy[tree.Node]) -> st.SearchStrategy[tree.Node]:
    """One more level of every form around what there is."""
    at = st.just(0)
    few = st.lists(inner, max_size=3).map(tuple)
    item = st.builds(tree.Item, at, inner, st.just(("k",)))
    bare = st.builds(tree.Item, at, st.one_of(inner, st.just(tree.Star(0))), st.none())
    source = st.one_of(paths, members)
    query = st.one_of(
        st.builds(tree.Query, at, st.tuples(item), st.just(False), source,
                  st.sampled_from(["a", None]), st.none() | inner),
        st.builds(tree.Query, at, st.tuples(bare), st.just(True), source, st.none(),
                  st.none() | inner),
    )  # fmt: skip
    keys = st.sampled_from(["x", "y"]).map(lambda key: tree.Literal(0, key))
    return st.one_of(
        st.builds(tree.Binary, at, st.sampled_from("+ - * / % + - *".split()), inner, inner),
        st.builds(tree.Binary, at, st.sampled_from("= <> < <= > >=".split()), inner, inner),
        st.builds(tree.Binary, at, st.just("IN"), inner, st.builds(tree.ArrayLiteral, at, few)),
        st.builds(tree.Binary, at, st.just("IN"), inner, inner),
        st.builds(tree.Unary, at, st.sampled_from(["-", "NOT"]), inner),
        st.builds(tree.Logic, at, st.sampled_from(["AND", "OR"]),
                  st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(tree.Call, at, st.sampled_from(NAMES), few),
        st.builds(tree.Call, at, st.sampled_from("abs floor ceil round sqrt sign exp".split()),
                  st.tuples(inner)),
        st.builds(tree.Call, at, st.sampled_from("nanvl get_or_default mod concat get".split()),
                  st.tuples(inner, inner)),
        st.builds(tree.Call, at, st.sampled_from("isnull isundefined lower length".split()),
                  st.tuples(inner)),
        st.builds(tree.Cast, at, inner, st.sampled_from(sorted(CASTS))),
        st.builds(tree.Case, at, inner,
                  st.lists(st.tuples(inner, inner), min_size=1, max_size=2).map(tuple),
                  st.none() | inner),
        st.builds(tree.Member, at, inner, st.just("x")),
        st.builds(tree.ArrayLiteral, at, few),
        st.builds(tree.ObjectLiteral, at, st.lists(st.tuples(keys, inner), max_size=2).map(tuple)),
        st.builds(tree.Exists, at, query),
        query,
    )  # fmt: skip


expressions = st.recursive(leaves, forms, max_leaves=6)

arithmetic = st.recursive(
    st.one_of(paths, paths, number_literals),
    lambda inner: st.one_of(
        st.builds(tree.Binary, st.just(0), st.sampled_from("+ - * / +".split()), inner, inner),
        st.builds(tree.Binary, st.just(0), st.just("/"), inner, number_literals),
        st.builds(tree.Unary, st.just(0), st.just("-"), inner),
        st.builds(tree.Call, st.just(0), st.sampled_from("abs floor ceil round".split()),
                  st.tuples(inner)),
        st.builds(tree.Case, st.just(0), inner, st.tuples(st.tuples(inner, inner)),
                  st.none() | inner),
        st.builds(tree.Call, st.just(0), st.sampled_from(["nanvl", "get_or_default"]),
                  st.tuples(paths, inner)),
    ),
    max_leaves=6,
)  # fmt: skip

grid = st.integers(-600, 600).map(lambda n: n / 10)
hundredths = st.integers(-30_000, 30_000).map(lambda n: n / 100)
numbers = st.one_of(
    grid,
    hundredths,
    st.integers(-12, 12),
    st.sampled_from([0.30000000000000004, 1e300, 5e-324, 2**53 + 1, 10**40, 1e15, 123456.789]),
    st.floats(allow_nan=False, allow_infinity=False),
)
anything = st.one_of(
    numbers,
    st.sampled_from(TEXTS),
    st.sampled_from(
        [True, False, None, UNSET, [], [1], ["abc", 2.0], {}, {"x": 1},
         {"x": [1, {"k": 2}], "y": "a"}, [{"x": 1, "a": 2.5}, {"x": "abc"}, 5]]
    ),
)  # fmt: skip


def column(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """The values of one path, a row each."""
    return st.lists(of, min_size=ROWS, max_size=ROWS)


columns = st.tuples(*[st.one_of(
    column(grid), column(hundredths), column(st.integers(-12, 12)), column(numbers),
    column(st.sampled_from(TEXTS)), column(st.booleans()), column(anything),
)] * 3)  # fmt: skip

dialects = st.builds(
    Dialect,
    st.sampled_from(["int", "decimal"]),
    st.sampled_from(["strict", "kleene"]),
    st.sampled_from(["2016-03-23"] * 3 + ["2015-10-08"]),
)
