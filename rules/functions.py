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
    regex,
    regex_functions,
    text_functions,
    time_format,
    time_read,
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
    **regex_functions.FUNCTIONS,
    **text_functions.FUNCTIONS,
    **time_format.FUNCTIONS,
    **time_read.FUNCTIONS,
}

# Whose numbers are Ints; those of all others are Decimals, which only version 2015-10-08 shows.
WHOLE_RESULTS = number_functions.INT_RESULTS | frozenset(
    "indexof length numbytes time_to_epoch timestamp".split()
)

KNOWN = frozenset((*FUNCTIONS, *DRAWN))


class Pattern(NamedTuple):
    """Which argument of a function is a pattern, and what is wrong with one that cannot be applied.

    severity: "error" where this package refuses what AWS may take, "warning" where the result is
    Undefined there as well.
    """

    argument: int
    refusal: Callable[[str], str | None]
    severity: str


PATTERNS: Mapping[str, Pattern] = {
    "parse_time": Pattern(0, time_format.refusal, "warning"),
    "regexp_matches": Pattern(1, regex.refusal, "error"),
    "regexp_replace": Pattern(1, regex.refusal, "error"),
    "regexp_substr": Pattern(1, regex.refusal, "error"),
    "time_to_epoch": Pattern(1, time_read.refusal, "warning"),
}

# What asks a service of AWS about every message, and what to do instead.
CLOUD: Mapping[str, str] = {
    "aws_lambda": "run the function on the stream that the rule forwards to",
    "get_dynamodb": "keep it as a threshold of the device, or let devices send it",
    "get_registry_data": "let devices send it, or keep it as a threshold of the device",
    "get_secret": "a statement needs none: sinks take credentials from the environment",
    "get_thing_shadow": "let devices send the reported state with their messages",
    "machinelearning_predict": "call the model on the stream that the rule forwards to",
}

AGGREGATES = frozenset("avg count max mean median min stddev sum total variance".split())
