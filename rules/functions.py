"""The functions of IoT SQL, in one table: what is here, what needs AWS, what is no function of it.

A function takes the message and its arguments, already evaluated. A wrong number or wrong types of
arguments give Undefined, never an error. Names are matched in lower case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from . import (
    coding_functions,
    collection_functions,
    context_functions,
    hash_functions,
    number_functions,
    text_functions,
)
from .context_functions import DRAWN as DRAWN
from .context_functions import Function

CONTEXT = frozenset(context_functions.FUNCTIONS)  # what depends on more than the arguments
FUNCTIONS: Mapping[str, Function] = {
    **coding_functions.FUNCTIONS,
    **collection_functions.FUNCTIONS,
    **context_functions.FUNCTIONS,
    **hash_functions.FUNCTIONS,
    **number_functions.FUNCTIONS,
    **text_functions.FUNCTIONS,
}

# Whose numbers are Ints; those of all others are Decimals, which only version 2015-10-08 shows.
WHOLE_RESULTS = number_functions.INT_RESULTS | frozenset(
    "indexof length numbytes time_to_epoch timestamp".split()
)

LATER = frozenset(
    """
    abs acos asin atan atan2 bitand bitnot bitor bitxor ceil chr concat cos cosh
    decode encode endswith exp floor get get_dynamodb get_or_default
    indexof isnull isundefined length ln log lower lpad ltrim md2 md5 mod nanvl
    numbytes parse_time power regexp_matches regexp_replace regexp_substr
    remainder replace round rpad rtrim sha1 sha224 sha256 sha384 sha512 sign sin sinh
    sqrt startswith substring tan tanh time_to_epoch transform trim
    trunc upper
    """.split()
) - {*FUNCTIONS}

KNOWN = frozenset((*FUNCTIONS, *DRAWN, *LATER))


class Pattern(NamedTuple):
    """Which argument of a function is a pattern, and what is wrong with one that cannot be applied.

    severity: "error" where this package refuses what AWS may take, "warning" where the result is
    Undefined there as well.
    """

    argument: int
    refusal: Callable[[str], str | None]
    severity: str


PATTERNS: Mapping[str, Pattern] = {}

# What asks a service of AWS about every message, and what to do instead.
CLOUD: Mapping[str, str] = {
    "aws_lambda": "run the function on the stream that the rule forwards to",
    "get_registry_data": "let devices send it, or keep it as a threshold of the device",
    "get_secret": "a statement needs none: sinks take credentials from the environment",
    "get_thing_shadow": "let devices send the reported state with their messages",
    "machinelearning_predict": "call the model on the stream that the rule forwards to",
}

AGGREGATES = frozenset("avg count max mean median min stddev sum total variance".split())
