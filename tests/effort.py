"""How many examples a property is tried with: fewer in `make quick` than in `make test`."""

from hypothesis import settings

USUAL = 100  # examples of the profile of `make test`


def examples(count: int) -> int:
    """So many in `make test`, and the same share of them in `make quick` as of all others."""
    return max(10, count * settings.default.max_examples // USUAL)
