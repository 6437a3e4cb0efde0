"""Templates hold what a pipeline file names and needs, and nothing wider."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml as reference

from streamgauge.consumers.deploy import container
from streamgauge.consumers.deploy import template as function
from streamgauge.consumers.deploy.cloudformation import Node, excused, literal, sub, yaml
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import spec as specs
from streamgauge.rules.spec import load

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "aws" / "thermostats.toml"
NO_ARN = {"ecr:GetAuthorizationToken"}  # actions for which a policy can name no resource
BASE = """
[pipeline]
name = "p.1"
[source]
stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/readings"
[record]
device = ["site", "unit.id"]
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
threshold = 1.0
[errors]
location = "s3://data/e"
[state]
location = "s3://data/s/"
"""
MORE = (
    '[thresholds]\ntable = "limits"\n[alerts]\nsns_topic = "arn:aws:sns:eu-west-1:123456789012:a"\n'
)


class Loader(reference.SafeLoader):
    """YAML with the short forms of CloudFormation's functions, made long again."""


def _long(loader: Loader, tag: str, node: Any) -> Any:
    value = loader.construct_scalar(node)
    if tag == "Ref":
        return {"Ref": value}
    return {f"Fn::{tag}": value.split(".", 1) if tag == "GetAtt" else value}


Loader.add_multi_constructor("!", _long)


def both(toml: str) -> tuple[Node, Node]:
    spec = specs.parse(toml)
    return function.template(spec, "p.toml", "3.12"), container.template(spec, "p.toml")


def statements(node: Any) -> Iterator[Node]:
    """All statements of policies, wherever they stand."""
    if isinstance(node, dict):
        if "Effect" in node:
            yield node
        for value in node.values():
            yield from statements(value)
    elif isinstance(node, list):
        for value in node:
            yield from statements(value)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def wide(template: Any) -> list[Node]:
    """The statements that allow any action, or something on any resource."""
    found = []
    for one in statements(template):
        actions, resources = listed(one["Action"]), listed(one.get("Resource", []))
        everything = any(str(action).endswith("*") for action in actions)
        everywhere = any(resource == "*" for resource in resources) and not NO_ARN >= set(actions)
        if one["Effect"] == "Allow" and (everything or everywhere):
            found.append(one)
    return found


def actions(template: Node, role: str) -> dict[str, Any]:
    """What a role may do, on what."""
    found = {}
    for one in statements(template["Resources"][role]["Properties"]["Policies"]):
        found.update(dict.fromkeys(one["Action"], one["Resource"]))
    return found


@pytest.mark.parametrize("toml", [BASE, BASE + MORE], ids=["bare", "all"])
def test_no_policy_is_wide(toml: str) -> None:
    for made in both(toml):
        assert wide(made) == []
        assert len(list(statements(made))) > 5


@pytest.mark.parametrize(
    "planted",
    [{"Action": ["s3:*"], "Resource": "arn"}, {"Action": "sns:Publish", "Resource": "*"},
     {"Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"], "Resource": ["*"]}],
)  # fmt: skip
def test_a_wide_policy_is_seen(planted: Node) -> None:
    made, _ = both(BASE)
    role = made["Resources"]["ConsumerRole"]["Properties"]["Policies"][0]
    role["PolicyDocument"]["Statement"].append({"Effect": "Allow", **planted})
    assert [one["Action"] for one in wide(made)] == [planted["Action"]]


def test_what_the_file_does_not_name_is_not_there() -> None:
    made, worker = both(BASE)
    assert {"Thresholds", "Alerts"}.isdisjoint(made["Resources"])
    for template, role in ((made, "ConsumerRole"), (worker, "WorkerRole")):
        services = {action.partition(":")[0] for action in actions(template, role)}
        assert "sns" not in services and "dynamodb:BatchGetItem" not in actions(template, role)
        assert "LIMITS" not in json.dumps(template) and "TOPIC" not in json.dumps(template)
    spec = specs.parse(BASE)
    assert len(function.notes(spec, "p.toml")) == 2
    assert "one bucket" in function.notes(spec, "p.toml")[0]
    assert function.notes(load(EXAMPLE, {}), "p.toml") == []


def test_each_action_is_allowed_where_the_file_says() -> None:
    made, worker = both(BASE + MORE)
    found = actions(made, "ConsumerRole")
    assert found["dynamodb:BatchGetItem"] == {"Fn::GetAtt": ["Thresholds", "Arn"]}
    assert found["sns:Publish"] == {"Ref": "Alerts"}
    assert found["kinesis:GetRecords"] == {"Fn::GetAtt": ["Stream", "Arn"]}
    assert found["s3:DeleteObject"] == {"Fn::Sub": "${Bucket.Arn}/s/*"}
    assert found["kms:Decrypt"] == {"Ref": "KmsKeyArn"}
    assert actions(made, "IotRole").keys() == {
        "kinesis:PutRecord", "s3:PutObject", "kms:GenerateDataKey"}  # fmt: skip
    under_kcl = actions(worker, "WorkerRole")
    assert {name for name in found if not name.startswith("logs:")} < under_kcl.keys()
    assert under_kcl["s3:DeleteObject"] == {
        "Fn::Sub": "arn:${AWS::Partition}:s3:::${BucketName}/s/*"
    }
    tables = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Application}"
    assert {"Fn::Sub": f"{tables}-CoordinatorState"} in under_kcl["dynamodb:PutItem"]


def test_a_rule_that_forwards_may_put_into_that_stream_and_no_other() -> None:
    arn = "arn:aws:kinesis:eu-west-1:210987654321:stream/theirs"
    again = BASE.partition("[[rules]]")[2].partition("[errors]")[0].replace('"hot"', '"too"')
    toml = BASE.replace("threshold = 1.0\n", 'threshold = 1.0\nforward = "hot"\n')
    toml += f'[[rules]]{again}forward = "{arn}"\n'
    assert "kinesis:PutRecords" not in actions(both(BASE)[0], "ConsumerRole")
    for template, role in zip(both(toml), ("ConsumerRole", "WorkerRole"), strict=True):
        hot, theirs = actions(template, role)["kinesis:PutRecords"]
        assert hot["Fn::Sub"].endswith(":stream/hot") and theirs == arn
        assert wide(template) == []


def test_the_mapping_has_one_lane_a_shard_and_loses_nothing() -> None:
    made, _ = both(BASE)
    consumer = made["Resources"]["Consumer"]["Properties"]
    mapping = consumer["Events"]["Records"]["Properties"]
    assert mapping["ParallelizationFactor"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["DestinationConfig"] == {
        "OnFailure": {"Destination": {"Fn::GetAtt": ["Bucket", "Arn"]}}}  # fmt: skip
    assert {"FilterCriteria", "TumblingWindowInSeconds"}.isdisjoint(mapping)
    alarms = [one["Ref"] for one in consumer["DeploymentPreference"]["Alarms"]]
    assert [made["Resources"][name]["Properties"]["MetricName"] for name in alarms] == [
        "Errors", "IteratorAge"]  # fmt: skip


def test_the_variables_give_the_stack_s_names_to_the_same_file() -> None:
    """With CloudFormation's functions worked out, they are keys of the pipeline file."""
    made, worker = both(BASE + MORE)
    of_task = worker["Resources"]["Worker"]["Properties"]["ContainerDefinitions"][0]["Environment"]
    of_function = made["Resources"]["Consumer"]["Properties"]["Environment"]["Variables"]
    assert [one["Name"] for one in of_task] == list(of_function)
    values = {
        name: "s3://test" + value["Fn::Sub"].partition("}")[2] if "Fn::Sub" in value
        else "arn:aws:sns:eu-west-1:123456789012:b" if name.endswith("TOPIC") else "test"
        for name, value in of_function.items()
    }  # fmt: skip
    spec = specs.parse(BASE + MORE, environ=values)
    assert (spec.source.stream, spec.thresholds.table) == ("test", "test")
    assert (spec.errors.location, spec.state.location) == ("s3://test/e/", "s3://test/s/")


def test_messages_of_iot_find_their_shard_by_device() -> None:
    made, _ = both(BASE.replace('"SELECT * FROM \'#\'"', '"SELECT * FROM \'a/+\'"')
                   .replace("[record]", '[record]\ntopic = "mqtt_topic"'))  # fmt: skip
    payload = made["Resources"]["IotRule1"]["Properties"]["TopicRulePayload"]
    (action,) = payload["Actions"]
    assert action["Kinesis"]["PartitionKey"] == "${site}/${unit.id}"
    assert payload["Sql"] == "SELECT *, topic() AS mqtt_topic FROM 'a/+'"
    assert payload["ErrorAction"]["S3"]["Key"].startswith("iot/")


def test_directories_and_no_stream_are_refused_together() -> None:
    toml = BASE.replace("s3://data/e", "e").replace("s3://data/s/", "s/")
    toml = toml.replace('stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/readings"', "")
    for make in (lambda s: function.template(s, "p.toml", "3.12"),
                 lambda s: container.template(s, "p.toml")):  # fmt: skip
        with pytest.raises(ConfigError) as raised:
            make(specs.parse(toml))
        places = [problem.where for problem in raised.value.problems]
        assert places == [f"p.toml: {key}" for key in
                          ("source.stream", "errors.location", "state.location")]  # fmt: skip


def test_what_the_function_cannot_do_gets_no_template() -> None:
    with pytest.raises(ConfigError, match="archive.format.*pyarrow"):
        both(BASE + '[archive]\nlocation = "s3://data/a/"\n')
    with pytest.raises(ConfigError, match="archive.location"):
        both(BASE + '[archive]\nlocation = "a/"\nformat = "ndjson.gz"\n')


def test_an_archive_has_a_bucket_of_its_own_which_the_function_writes_into() -> None:
    archive = '[archive]\nlocation = "s3://lake/a/"\nformat = "ndjson.gz"\n'
    made = function.template(specs.parse(BASE + archive), "p.toml", "3.12")
    rules = made["Resources"]["ArchiveBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [(rule["Id"], rule["Prefix"], "ExpirationInDays" in rule) for rule in rules] == [
        ("archive", "a/", False)
    ]
    text = json.dumps(made)
    assert text.count('"Sid": "Archive"') == 1 and "STREAMGAUGE_ARCHIVE__LOCATION" in text
    with pytest.raises(ConfigError, match="archive.*under the KCL"):
        container.template(specs.parse(BASE + archive), "p.toml")


def test_a_bucket_of_state_alone_keeps_no_versions() -> None:
    made, _ = both(BASE.replace("s3://data/s/", "s3://other/s/"))
    buckets = {name: made["Resources"][name]["Properties"] for name in
               ("ErrorsBucket", "StateBucket")}  # fmt: skip
    kept = {name: one["VersioningConfiguration"]["Status"] for name, one in buckets.items()}
    assert kept == {"ErrorsBucket": "Enabled", "StateBucket": "Suspended"}
    rules = buckets["StateBucket"]["LifecycleConfiguration"]["Rules"]
    assert all("ExpirationInDays" not in rule for rule in rules), "state never expires"


@pytest.mark.parametrize("toml", [BASE, BASE + MORE], ids=["bare", "all"])
def test_the_yaml_is_the_template(toml: str) -> None:
    for made in both(toml):
        assert reference.load(yaml(made, ["a head"]), Loader) == made


def test_text_that_yaml_would_read_as_something_else() -> None:
    texts = """yes No null ~ 1e3 2012-10-17 - * &x a: !x % @ ` ' " a\\b = {a} [a] on 0x1 .5 a'b | a,
        AWS::X Fn::If a::""".split()
    texts += ["", " a", "a ", "a: b", "a #b", "- a", "x: ", "a, b", "\t", "ü\u2028", "\x85", "😀"]
    texts += ["a\nb: c\n\nd", "a\nb\n", "\na", " a\nb", "a \nb", "a\n\tb", "a\n  b", "\n"]
    node = {"texts": texts, **{text: text for text in texts if "\n" not in text}}
    assert reference.load(yaml(node), Loader) == node


def test_text_of_others_is_no_substitution() -> None:
    assert sub(literal("a${b}$c")) == {"Fn::Sub": "a${!b}$c"}


def test_a_reason_stands_in_the_template() -> None:
    node = excused({"Type": "T"}, CKV_1="because")
    assert node["Metadata"] == {"checkov": {"skip": [{"id": "CKV_1", "comment": "because"}]}}


def test_the_dashboard_is_json_in_the_form_of_cloudwatch() -> None:
    made, _ = both(BASE)
    body = json.loads(made["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    assert len(body["widgets"]) == 6
    places = {(one["x"], one["y"]) for one in body["widgets"]}
    assert len(places) == 6
    named = [metric for one in body["widgets"] for metric in one["properties"]["metrics"]]
    assert ["streamgauge", "late", "pipeline", "p.1"] in named


@pytest.mark.parametrize(("name", "kcl"), [("template.yaml", False), ("worker.yaml", True)])
def test_the_committed_templates_are_those_of_the_example(name: str, kcl: bool) -> None:
    spec = load(EXAMPLE, {})
    made = container.template(spec, "x") if kcl else function.template(spec, "x", "3.12")
    committed = (EXAMPLE.parent / name).read_text(encoding="utf-8")
    assert committed.split("\n", 2)[2] == yaml(made)


def test_the_stages_of_the_example_set_parameters_that_there_are() -> None:
    stages = tomllib.loads((EXAMPLE.parent / "samconfig.toml").read_text())
    parameters = function.template(load(EXAMPLE, {}), "x", "3.12")["Parameters"]
    names = {name for name in stages if name != "version"}
    assert names == {"dev", "prod"}
    for name in names:
        of = stages[name]["deploy"]["parameters"]
        given = dict(one.split("=", 1) for one in of["parameter_overrides"])
        assert given["Stage"] == name and given.keys() <= parameters.keys()
        for key, value in given.items():
            assert value in parameters[key].get("AllowedValues", [value])
