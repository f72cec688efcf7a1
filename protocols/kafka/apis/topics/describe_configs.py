"""DescribeConfigs (32), versions 1 to 4: all configurations of topics, groups and the broker, with defaults and
sources.

Kafka's frameworks start with it: what is missing here stops them.                        Sources: KIP-226, KIP-569
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics import configs
from protocols.kafka.topics.broker_configs import broker_rows
from protocols.kafka.topics.changes import is_fixed
from routing.rights.policy import Action

SCHEMA = Schema(32, "DescribeConfigs", 1, 4, flexible=4, request="""
    resources [] {
        resource_type int8
        resource_name string
        configuration_keys []string?
    }
    include_synonyms bool
    include_documentation bool 3+
""", response="""
    throttle_time_ms int32
    results [] {
        error_code int16
        error_message string?
        resource_type int8
        resource_name string
        configs [] {
            name string
            value string?
            read_only bool
            config_source int8 = -1
            is_sensitive bool
            synonyms [] {
                name string
                value string?
                source int8
            }
            config_type int8 3+
            documentation string? 3+
        }
    }
""")

TOPIC, BROKER, GROUP = 2, 4, 32     # ConfigResource.Type


async def handle(call: Call, request: Message) -> Values:
    results: list[dict[str, Any]] = []
    once = {(resource.resource_type, resource.resource_name): resource for resource in request.resources}
    for resource in once.values():                          # each once, however often it is named
        row = {"resource_type": resource.resource_type, "resource_name": resource.resource_name,
               "configs": [], **_describe(call, resource)}
        for config in row["configs"]:
            if not request.include_synonyms:
                config["synonyms"] = []
            if not request.include_documentation:
                config["documentation"] = None
        results.append(row)
        await call.rest()
    return {"results": results}


def _describe(call: Call, resource: Message) -> dict[str, Any]:
    topics, name, names = call.broker.topics, resource.resource_name, resource.configuration_keys
    if resource.resource_type == TOPIC:
        stream = topics.find(name)
        if stream is None:
            return _refused(Code.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        if not topics.may_describe(call.identity, stream):
            topics.note_denial(call.identity, stream)
            return _refused(Code.TOPIC_AUTHORIZATION_FAILED, "not allowed")
        return {"configs": configs.rows(stream.settings, names, is_fixed=is_fixed(call, stream))}
    if resource.resource_type == BROKER:
        if name not in ("", str(call.broker.cluster.my_id)):
            return _refused(Code.INVALID_REQUEST, f"the one broker here is {call.broker.cluster.my_id}")
        if not topics.may(call.identity, Action.VIEW):
            return _refused(Code.CLUSTER_AUTHORIZATION_FAILED, "not allowed")
        host, port = call.broker.address_for(call.client.local_address)
        return {"configs": broker_rows(
            call.broker.settings, call.broker.router.limits.transaction_timeout_max_ms, call.broker.cluster.my_id,
            f"{host}:{port}", names) if name else []}
    if resource.resource_type == GROUP:
        if call.broker.groups.refuse_id(name) is not None:
            return _refused(Code.INVALID_REQUEST, "not a group id")
        if not call.broker.groups.may_see(call.identity, name):
            return _refused(Code.GROUP_AUTHORIZATION_FAILED, "another user's group")
        return {"configs": call.broker.share_groups.options.rows(name, names)}
    return _refused(Code.INVALID_REQUEST, "topics, groups and brokers have configurations here")


def _refused(code: Code, text: str) -> dict[str, Any]:
    return {"error_code": code, "error_message": text}


API = Api(SCHEMA, handle)
