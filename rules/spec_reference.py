"""Write the reference page of the pipeline file from the structs that read it.

`python -m streamgauge.rules.spec_reference` prints docs/pipeline-file.md.
"""

from __future__ import annotations

import sys

from .spec import Spec
from .spec_tables import Key, Shape, keys, tables, variable_name

_HEAD = """\
# The pipeline file

Generated from the structs in `rules/spec_keys.py` by `python -m streamgauge.rules.spec_reference`.
[examples/thermostats.toml](../examples/thermostats.toml) shows every key.

One TOML file declares a pipeline: what to read, where things stand in a message, what to watch, and
where results go. `streamgauge check FILE` reads it as every host does and prints every problem it
finds, in the file and in the rules; `streamgauge init` writes one to begin with. A key that is not
listed here is an error, never ignored.

- **Durations** are text with a unit: `"500ms"`, `"60s"`, `"5m"`, `"24h"`, `"1d"`, `"1.5h"`.
- **Sizes** are text with a unit: `"64MiB"` (powers of 1024) or `"10MB"` (powers of 1000).
- **Paths** name a value inside a message, with dots: `"reading.value"`.
- **Names** hold letters, digits, `_`, `-` and `.`, since ids and object names are made of them.
- **Locations** are a directory, relative to where the command is run, or `"s3://bucket/prefix/"`.
- **Environment variables** override single values, so that one file serves several places:
  `{source}=telemetry-test`, or for a rule, by its name in capitals with
  `_` for what is no letter or digit, `{rule}=95`. The value is
  read as TOML where that fits the key, else as text. A variable with a double underscore that names
  no key is an error; one without a double underscore is not meant for this file.
- **AWS** regions, endpoints and credentials stand in no pipeline file: the ordinary boto3 chain
  finds them (`AWS_REGION`, `AWS_ENDPOINT_URL`, profiles, roles).
"""

_TAIL = """
## What must agree

- Rules have different names. The device's and the time's paths differ.
- `delivery.forget_after` is at least the window of every rule and `delivery.allowed_lateness`
  together.
- In the `fan_out` mode windows are whole seconds, and the statistic is `mean`, `min`, `max`, `sum`
  or `count`.
- `delivery.panes_stream` is another stream than `source.stream` and those of `rules.forward`.
- `errors.location`, `state.location` and `archive.location` are different places.
- `rules.forward` is another stream than `source.stream`; `rules.forward_key` needs it.
- `rules.tests.topic` needs `record.topic`.
- `mqtt.cert` and `mqtt.key` come together; they and `mqtt.ca` need an `mqtts` address.
"""


def reference() -> str:
    """The text of docs/pipeline-file.md: a table of keys for each table of the file."""
    head = _HEAD.replace("{source}", variable_name("source", "stream"))
    head = head.replace("{rule}", variable_name("rules", "overheating", "threshold"))
    parts = [head]
    for heading, shape in tables(Spec):
        parts.append(_section(heading, shape))
    return "".join(parts) + _TAIL


def _section(heading: str, shape: Shape) -> str:
    path = heading.strip("[]")
    lines = [
        f"\n## `{heading}`\n",
        f"{shape.__doc__}\n",
        "| key | type | unit | default | meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{path}.{key.name}` | {_code(key.kind.name)} | {key.unit} | {_default(key)} "
        f"| {key.meaning} |"
        for key in keys(shape).values()
        if key.kind is not None
    ]
    return "\n".join(lines) + "\n"


def _code(kind: str) -> str:
    """The kind's name, the values of a choice as code."""
    if not kind.startswith("one of "):
        return kind
    return ", ".join(f"`{value}`" for value in kind.removeprefix("one of ").split(", "))


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if key.default is None or key.kind is None:
        return "none"
    return f"`{key.kind.show(key.default)}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
