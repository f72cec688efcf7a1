"""DescribeAcls (29), versions 1 to 3: the ACLs that clients have made, as far as they are in force.  Source: KIP-140

Who may view sees them, as in the console. Policies of other origin are no ACLs and are not listed.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.acls.acting import ANSWERED_MAX, TOO_MANY, bindings
from protocols.kafka.acls.binding import Filter, filter_from
from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from routing.rights.policy import Action

SCHEMA = Schema(29, "DescribeAcls", 1, 3, flexible=2, request="""
    resource_type_filter int8
    resource_name_filter string?
    pattern_type_filter int8 = 3
    principal_filter string?
    host_filter string?
    operation int8
    permission_type int8
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string?
    resources [] {
        resource_type int8
        resource_name string
        pattern_type int8 = 3
        acls [] {
            principal string
            host string
            operation int8
            permission_type int8
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    topics = call.broker.topics
    if call.broker.authenticator.open:
        return {"error_code": Code.SECURITY_DISABLED, "error_message": "nobody logs in on this node"}
    if not (topics.may(call.identity, Action.VIEW) or topics.may(call.identity, Action.ADMINISTER)):
        return {"error_code": Code.CLUSTER_AUTHORIZATION_FAILED, "error_message": "it takes the right to view"}
    asked = filter_from(request)
    if not isinstance(asked, Filter):
        return {"error_code": Code.INVALID_REQUEST, "error_message": asked}
    resources: dict[tuple[int, str, int], dict[str, Any]] = {}
    count = 0
    for binding in (await bindings(call)).values():
        if asked.matches(binding):
            count += 1
            if count > ANSWERED_MAX:
                return {"error_code": Code.INVALID_REQUEST, "error_message": TOO_MANY}
            row = binding.row()
            resource = resources.setdefault(
                (binding.resource_type, binding.name, binding.pattern_type), {**row, "acls": []})
            resource["acls"].append(row)
        await call.rest()
    return {"resources": list(resources.values())}


API = Api(SCHEMA, handle)
