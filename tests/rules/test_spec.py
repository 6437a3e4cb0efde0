import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine.errors import ConfigError
from streamgauge.rules import spec_values as values
from streamgauge.rules.spec import Spec, examine, load, parse
from streamgauge.rules.spec_reference import reference
from streamgauge.rules.spec_tables import keys, parse_toml, tables

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "thermostats.toml"
DURATION = '"500ms", "60s", "5m", "24h" or "1d"'

SMALLEST = """\
[pipeline]
name = "thermostats"
[[rules]]
name = "overheating"
sql = "SELECT temperature FROM '#'"
measure = "temperature"
threshold = 90
"""


def problems(text, environ=None):
    return [str(problem) for problem in examine(text, "t.toml", environ)[1]]


def changed(old, new):
    assert old in SMALLEST
    return SMALLEST.replace(old, new)


def test_the_smallest_file_takes_every_default():
    spec = parse(SMALLEST)
    rule = spec.rules[0]
    assert (rule.window, rule.statistic, rule.fire_when) == (60_000, "mean", "above")
    assert (rule.threshold, rule.clear_margin, rule.min_samples, rule.hold) == (90.0, 0.0, 1, 0)
    assert type(rule.threshold) is float
    assert rule.severity == "warning"
    assert (spec.source.stream, spec.source.format, spec.source.out_of_range) == (
        None,
        "json",
        "evaluate",
    )
    assert (spec.record.device, spec.record.time, spec.record.time_unit) == (
        ("device",),
        None,
        "ms",
    )
    assert (spec.sql.version, spec.sql.int_division, spec.sql.undefined_logic) == (
        "2016-03-23",
        "int",
        "strict",
    )
    assert (spec.thresholds.table, spec.thresholds.refresh) == (None, 10_000)
    assert (spec.alerts.sns_topic, spec.errors.location) == (None, "errors/")
    assert (spec.state.location, spec.state.save_every) == ("state/", 30_000)
    delivery = spec.delivery
    assert (delivery.mode, delivery.workers, delivery.duplicates) == ("ordered", 1, "drop")
    assert (delivery.allowed_lateness, delivery.max_clock_skew) == (10_000, 300_000)
    assert delivery.forget_after == 86_400_000
    assert spec.archive is None and spec.mqtt is None


def test_the_example_is_valid_as_it_is_and_with_everything_switched_on():
    text = EXAMPLE.read_text()
    assert [rule.name for rule in parse(text).rules] == ["overheating", "too-cold"]
    everything = re.sub(r"(?m)^#(?=[a-z\[])", "", text)
    spec = parse(everything)
    assert spec.archive.max_bytes == 64 << 20 and spec.archive.max_age == 60_000
    assert spec.mqtt.max_in_flight == 2000 and spec.mqtt.routes[0].partition_key == "${topic(2)}"
    assert spec.rules[0].tests[0].expect == ({"state": "firing", "value": 95.0, "samples": 5},)
    tree = parse_toml(everything, "")
    for heading, shape in tables(Spec):
        table = tree
        for name in heading.strip("[]").split("."):
            table = table[name][0] if isinstance(table[name], list) else table[name]
        missing = {key.name for key in keys(shape).values() if not key.environment_only} - set(
            table
        )
        assert not missing - {"tests"}, heading


def test_the_reference_page_is_what_the_structs_say():
    committed = (ROOT / "docs" / "pipeline-file.md").read_text()
    assert committed == reference(), (
        "write it anew: python -m streamgauge.rules.spec_reference > docs/pipeline-file.md"
    )


def test_every_key_has_a_meaning_and_a_default_that_reads_back():
    for heading, shape in tables(Spec):
        for key in keys(shape).values():
            if key.kind is None:
                continue
            assert key.meaning, f"{heading} {key.name}"
            assert f"`{heading.strip('[]')}.{key.name}`" in reference()
            if not key.required and key.default is not None:
                value = parse_toml(f"value = {key.kind.show(key.default)}", "")["value"]
                assert key.kind.read(value) == key.default


EVERYTHING = """\
[pipeline]
name = "p.1-a_b"
[source]
stream = "arn:aws:kinesis:eu-central-1:123456789012:stream/telemetry"
[record]
device = ["meta.gateway", "sensor"]
time = "meta.ts"
time_unit = "iso8601"
topic = "topic"
[[rules]]
name = "a"
sql = "SELECT *"
measure = "reading.value"
window = "1.5h"
statistic = "stddev"
fire_when = "below"
threshold = -1e3
clear_margin = 1
min_samples = 3
hold = "1m"
severity = "page the operator"
tests = [{ given = { a = 1 }, topic = "x", expect = "firing" },
         { given = ["{", { a = [true] }], expect = [] },
         { given = [{}], expect = ["firing", { state = "resolved", samples = 2 }] }]
[archive]
location = "archive"
format = "ndjson.gz"
max_bytes = "10MB"
[errors]
location = "s3://my-bucket/errors/"
[mqtt]
url = "mqtts://[::1]:8883"
ca = "ca.pem"
cert = "c.pem"
key = "c.key"
qos = 0
[[mqtt.routes]]
sql = "SELECT *"
partition_key = "${topic(2)}"
"""


def test_all_keys_in_the_engines_form(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(EVERYTHING)
    spec = load(file, {"STREAMGAUGE_MQTT__PASSWORD": "123"})
    rule = spec.rules[0]
    assert spec.record.device == ("meta.gateway", "sensor")
    assert (rule.window, rule.hold, rule.threshold, rule.clear_margin) == (
        5_400_000,
        60_000,
        -1000.0,
        1.0,
    )
    assert [case.given for case in rule.tests] == [({"a": 1},), ("{", {"a": [True]}), ({},)]
    assert [case.expect for case in rule.tests] == [
        ({"state": "firing"},),
        (),
        ({"state": "firing"}, {"state": "resolved", "samples": 2}),
    ]
    assert spec.archive.max_bytes == 10_000_000
    assert spec.mqtt.password == "123" and "123" not in repr(spec.mqtt.password)
    assert "password='***'" in repr(spec)
    with pytest.raises(AttributeError):
        spec.pipeline.name = "other"


def test_all_mistakes_are_told_at_once():
    text = """
        [pipeline]
        nmae = "x"
        [[rules]]
        name = "a"
        sql = ""
        measure = 1
        threshold = inf
        [[rules]]
        name = "a"
        sql = "SELECT *"
        measure = "x"
        threshold = 1
        window = "2d"
        [delivery]
        workers = -1
    """
    assert [problem.where for problem in examine(text, "t.toml")[1]] == [
        "t.toml: pipeline.nmae",
        "t.toml: rules.a.sql",
        "t.toml: rules.a.measure",
        "t.toml: rules.a.threshold",
        "t.toml: delivery.workers",
        "t.toml: rules[1].name",
        "t.toml: delivery.forget_after",
    ]


def test_a_file_that_cannot_be_read_is_a_problem_too(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml: error: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(SMALLEST.encode() + b"# 90 \xb0C")
    with pytest.raises(ConfigError, match=r"not UTF-8: line 8 holds the byte 0xb0 \(save the file"):
        load(latin, {})
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load(marked, {}) == parse(SMALLEST)


def test_the_environment_overrides():
    spec = parse(
        changed("[[rules]]\n", '[[rules]]\nseverity = "a"\n').replace(
            '"overheating"', '"over-heat.1"'
        ),
        environ={
            "STREAMGAUGE_RULES__OVER_HEAT_1__THRESHOLD": "95",
            "STREAMGAUGE_RULES__OVER_HEAT_1__WINDOW": "5m",
            "STREAMGAUGE_RULES__OVER_HEAT_1__SEVERITY": '"in quotes"',
            "STREAMGAUGE_SOURCE__STREAM": "123",  # a name, though it is also a TOML integer
            "STREAMGAUGE_RECORD__DEVICE": '["gateway", "sensor"]',
            "STREAMGAUGE_ARCHIVE__LOCATION": "archive/",
            "STREAMGAUGE_MQTT__PASSWORD": "alone it declares no bridge",
            "STREAMGAUGE_REQUIRE_SERVERS": "1",
            "STREAMGAUGE": "x",
            "OTHER__NAME": "x",
        },
    )
    rule = spec.rules[0]
    assert (rule.threshold, rule.window, rule.severity) == (95.0, 300_000, "in quotes")
    assert spec.source.stream == "123"
    assert spec.record.device == ("gateway", "sensor")
    assert spec.archive.location == "archive/"
    assert spec.mqtt is None


def test_the_environment_can_mend_the_file():
    assert parse(
        changed("= 90", '= "?"'), environ={"STREAMGAUGE_RULES__OVERHEATING__THRESHOLD": "1"}
    )


def test_problems_of_the_environment_name_the_variable():
    environ = {
        "STREAMGAUGE_RULES__OVERHEATING__TRESHOLD": "1",
        "STREAMGAUGE_SORCE__STREAM": "x",
        "STREAMGAUGE_RULES__OVERHEATING__MIN_SAMPLES": "0",
        "STREAMGAUGE_RULES__OVERHEATING__WINDOW": "soon",
        "STREAMGAUGE_DELIVERY__MAX_CLOCK_SKEW": "60",
        "STREAMGAUGE_Q__Z": "1",
    }
    variable = "t.toml: environment variable STREAMGAUGE"
    assert problems(SMALLEST, environ) == [
        f"{variable}_Q__Z: error: names no key of the pipeline file",
        f"{variable}_RULES__OVERHEATING__TRESHOLD: error: names no key "
        "of the pipeline file (did you mean STREAMGAUGE_RULES__OVERHEATING__THRESHOLD?)",
        f"{variable}_SORCE__STREAM: error: names no key of the "
        "pipeline file (did you mean STREAMGAUGE_SOURCE__STREAM?)",
        "t.toml: rules.overheating.window (set by STREAMGAUGE_RULES__OVERHEATING__WINDOW): error: "
        f'expected a duration of more than 0 such as {DURATION}, found the text "soon"',
        "t.toml: rules.overheating.min_samples (set by STREAMGAUGE_RULES__OVERHEATING__MIN_SAMPLES)"
        ": error: expected an integer of at least 1, found the integer 0",
        "t.toml: delivery.max_clock_skew (set by STREAMGAUGE_DELIVERY__MAX_CLOCK_SKEW): error: "
        f'expected a duration such as {DURATION}, found the integer 60 (a unit is needed: "60s")',
    ]


def test_a_variable_for_two_rules_is_refused():
    second = SMALLEST[SMALLEST.index("[[rules]]") :].replace("overheating", "too.cold")
    third = second.replace("too.cold", "too-cold")
    found = problems(SMALLEST + second + third, {"STREAMGAUGE_RULES__TOO_COLD__THRESHOLD": "1"})
    assert found == [
        "t.toml: environment variable STREAMGAUGE_RULES__TOO_COLD__THRESHOLD: error: stands for "
        "both rules.too.cold.threshold and rules.too-cold.threshold (rename one rule)"
    ]


def test_a_secret_is_not_repeated():
    text = SMALLEST + '[mqtt]\nurl = "mqtt://h"\nroutes = [{ sql = "a", partition_key = "b" }]'
    found = problems(text, {"STREAMGAUGE_MQTT__PASSWORD": "   "})
    assert found == [
        "t.toml: mqtt.password (set by STREAMGAUGE_MQTT__PASSWORD): error: expected text, found "
        "something else (it is empty)"
    ]


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 20_000, "x = " + "9" * 5_000, "x = \x00", "[a]\n[a]"]
)
def test_hostile_texts_are_problems(text):
    assert len(problems(text)) == 1


def test_a_very_long_integer_is_not_printed():
    (found,) = problems(changed("= 90", "= 0x" + "f" * 5_000))
    assert found.endswith("found an integer of more than a thousand digits (it is beyond float64)")


@settings(deadline=None)
@given(st.integers(1, values.DURATION_MAX))
def test_durations_read_back(ms):
    text = values.DURATION.show(ms)
    assert values.DURATION.read(text.strip('"')) == ms


@settings(deadline=None)
@given(st.integers(1, values.SIZE_MAX))
def test_sizes_read_back(size):
    assert values.SIZE.read(values.SIZE.show(size).strip('"')) == size


@settings(deadline=None)
@given(st.text(alphabet="0123456789.smhdMiBk -", max_size=8))
def test_any_text_is_a_duration_or_refused(text):
    for kind in (values.DURATION, values.SIZE):
        try:
            assert kind.read(text) >= 0
        except ValueError:
            pass


TOML_VALUES = st.sampled_from(
    ["1", "-1", "1.5", "nan", "true", '""', '"x"', '"60s"', "[]", "[1]", '["a"]', "{}", "{ a = 1 }"]
    + ["[{}]", "2020-01-01", "07:00:00", '"s3://b"', '"a.b"', "9223372036854775807", "1e400"]
)
SETTINGS = [
    (heading.strip("[]"), key.name)
    for heading, shape in tables(Spec)
    for key in keys(shape).values()
]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SETTINGS), TOML_VALUES), max_size=8))
def test_any_value_at_any_key_is_read_or_named(choices):
    """No keys and values make anything but a spec or problems that name a place."""
    tables_given = {"pipeline": {"name": '"p"'}, "rules": {"name": '"r"', "threshold": "1"}}
    for (table, key), value in choices:
        tables_given.setdefault(table, {})[key] = value
    arrays = {heading.strip("[]") for heading, _ in tables(Spec) if heading.startswith("[[")}
    tables_given.get("mqtt", {}).pop("routes", None)  # a value there forbids the tables below it
    tables_given["rules"].pop("tests", None)
    text = ""
    for table, content in sorted(tables_given.items()):
        text += f"[[{table}]]\n" if table in arrays else f"[{table}]\n"
        text += "".join(f"{key} = {value}\n" for key, value in content.items())
    spec, found = examine(text, "t.toml")
    assert spec is not None, text
    assert all(problem.where.startswith("t.toml: ") for problem in found)
    assert bool(found) or parse(text) == spec
