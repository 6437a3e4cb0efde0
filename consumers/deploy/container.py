"""A second template: the same pipeline under the KCL, as a task of ECS with its roles.

It is deployed in place of the function, over the stores of the other stack, whose names are its
parameters: two hosts of one pipeline would fence each other.
"""

from __future__ import annotations

from ...engine.errors import ConfigError
from ...rules.plan import Pipeline
from ...rules.spec import Spec
from .. import kcl_host
from . import permissions, stores
from .cloudformation import Node, att, ref, resource, sub
from .functions import environment, log_group
from .names import Named, named
from .package import PIPELINE
from .permissions import allow
from .template import conditions, stage

TASK, LOG = "Worker", "WorkerLog"
PORT = 9464  # of --listen
STOP_SECONDS = 30  # ten are promised
LEASE_TABLES = ("", "-CoordinatorState", "-WorkerMetricStats")  # of the KCL 3
LEASES = [
    "dynamodb:CreateTable",
    "dynamodb:DescribeTable",
    "dynamodb:UpdateTable",
    "dynamodb:Scan",
    "dynamodb:Query",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
]
PULL = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
]


def template(spec: Spec, origin: str) -> Node:
    """The template of one pipeline file; ConfigError as for that of the function."""
    problems = list(kcl_host.not_there(spec))
    if problems:
        raise ConfigError(problems)
    Pipeline.plan(spec, origin=origin)
    of = named(spec, origin)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The pipeline {of.title} of streamgauge as a KCL worker",
        "Parameters": stage() | _parameters(of),
        "Conditions": {name: conditions()[name] for name in ("UseKms",)},
        "Resources": {
            TASK: _task(of),
            "WorkerRole": _role(of),
            "ExecutionRole": _execution_role(),
            LOG: log_group(sub(f"/ecs/{of.function}-${{Stage}}")),
        },
        "Outputs": {TASK: {"Value": ref(TASK)}},
    }


def _parameters(of: Named) -> Node:
    named_by_stores = stores.parameters(of)
    shared = [name for name in named_by_stores if name.endswith("Name") or name == "KmsKeyArn"]
    return {
        "Repository": {
            "Type": "String",
            "Description": f"Of ECR, with the image: the command streamgauge and /{PIPELINE}",
        },
        "ImageTag": {"Type": "String"},
        "Application": {
            "Type": "String",
            "Default": of.title,
            "Description": "Of the KCL: what its tables of leases are called",
        },
        "Cpu": {"Type": "String", "Default": "1024"},
        "Memory": {"Type": "String", "Default": "2048"},
    } | {name: named_by_stores[name] for name in shared}


def _task(of: Named) -> Node:
    image = "${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/${Repository}:${ImageTag}"
    topic = permissions.by_name(of).topic
    variables = environment(of, ref("StreamName"), ref("ThresholdsTableName"), topic, "{}Name")
    container: Node = {
        "Name": "worker",
        "Image": sub(image),
        "Command": ["streamgauge", "kcl", f"/{PIPELINE}", "--listen", f"127.0.0.1:{PORT}"],
        "Environment": [{"Name": name, "Value": value} for name, value in variables.items()],
        "Essential": True,
        "ReadonlyRootFilesystem": True,
        "MountPoints": [{"SourceVolume": "scratch", "ContainerPath": "/tmp"}],
        "StopTimeout": STOP_SECONDS,
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": ref(LOG),
                "awslogs-region": ref("AWS::Region"),
                "awslogs-stream-prefix": "worker",
            },
        },
    }
    return resource(
        "AWS::ECS::TaskDefinition",
        {
            "Family": sub(f"{of.function}-${{Stage}}"),
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": ref("Cpu"),
            "Memory": ref("Memory"),
            "TaskRoleArn": att("WorkerRole"),
            "ExecutionRoleArn": att("ExecutionRole"),
            "Volumes": [{"Name": "scratch"}],
            "ContainerDefinitions": [container],
        },
    )


def _role(of: Named) -> Node:
    """What the pipeline calls, and the tables of leases that the KCL makes for itself."""
    table = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/"
    table += "${Application}"
    leases = [sub(table + name) for name in LEASE_TABLES] + [sub(f"{table}/index/*")]
    statements = [
        *permissions.of_pipeline(of, permissions.by_name(of)),
        allow("Leases", LEASES, leases),
    ]
    return resource("AWS::IAM::Role", permissions.role("ecs-tasks.amazonaws.com", statements))


def _execution_role() -> Node:
    """What ECS needs to start the task. For a token to pull images there is no resource to name."""
    repository = "arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/"
    statements = [
        allow("Token", ["ecr:GetAuthorizationToken"], "*"),
        allow("Pull", PULL, sub(repository + "${Repository}")),
        permissions.write_log(LOG),
    ]
    return resource("AWS::IAM::Role", permissions.role("ecs-tasks.amazonaws.com", statements))
