"""DescribeUserScramCredentials (50), version 0: who has a SCRAM password, never what it is.         Source: KIP-554"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(50, "DescribeUserScramCredentials", 0, 0, flexible=0, request="""
    users []? {
        name string
    }
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string?
    results [] {
        user string
        error_code int16
        error_message string?
        credential_infos [] {
            mechanism int8
            iterations int32
        }
    }
""")

NUMBERS = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}


async def handle(call: Call, request: Message) -> Values:
    if not call.broker.topics.may_manage(call.identity):
        return {"error_code": Code.CLUSTER_AUTHORIZATION_FAILED, "error_message": "it takes the right to manage"}
    names = [user.name for user in request.users] if request.users else call.broker.logins.passwords.users()
    results: list[dict[str, Any]] = []
    for name in names:
        found = [(number, call.broker.logins.passwords.find(name, mechanism)) for number, mechanism in NUMBERS.items()]
        infos = [{"mechanism": number, "iterations": one.iterations} for number, one in found if one is not None]
        row: dict[str, Any] = {"user": name, "credential_infos": infos}
        if not infos:
            row.update(error_code=Code.RESOURCE_NOT_FOUND, error_message="has no SCRAM password")
        elif names.count(name) > 1:
            row.update(error_code=Code.DUPLICATE_RESOURCE, error_message="is named twice", credential_infos=[])
        results.append(row)
        await call.rest()
    return {"results": results}


API = Api(SCHEMA, handle)
