"""DeleteAcls (31), versions 1 to 3: ACLs that filters match go, and are named.               Sources: KIP-140, KIP-290

One that several filters match is in the answer to the first of them.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.acls.acting import ANSWERED_MAX, TOO_MANY, bindings, change, refuse_change
from protocols.kafka.acls.binding import Filter, filter_from
from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.managed import PolicyChange

SCHEMA = Schema(31, "DeleteAcls", 1, 3, flexible=2, request="""
    filters [] {
        resource_type_filter int8
        resource_name_filter string?
        pattern_type_filter int8 = 3
        principal_filter string?
        host_filter string?
        operation int8
        permission_type int8
    }
""", response="""
    throttle_time_ms int32
    filter_results [] {
        error_code int16
        error_message string?
        matching_acls [] {
            error_code int16
            error_message string?
            resource_type int8
            resource_name string
            pattern_type int8 = 3
            principal string
            host string
            operation int8
            permission_type int8
        }
    }
""")

ACT = "kafka.acls.delete"
FILTERS_MAX = 1_000         # in one request: each is held against all ACLs


async def handle(call: Call, request: Message) -> Values:
    no = refuse_change(call, ACT)
    if no is None and len(request.filters) > FILTERS_MAX:
        no = Code.INVALID_REQUEST, f"at most {FILTERS_MAX} filters in one request"
    if no is not None:
        return {"filter_results": [{"error_code": no[0], "error_message": no[1]} for _ in request.filters]}
    left = await bindings(call)
    results: list[dict[str, Any]] = []
    rows: dict[str, dict[str, Any]] = {}
    for asked in map(filter_from, request.filters):
        if not isinstance(asked, Filter):
            results.append({"error_code": Code.INVALID_REQUEST, "error_message": asked})
            continue
        found: dict[str, dict[str, Any]] = {}
        for name, binding in left.items():
            if asked.matches(binding):
                found[name] = binding.row()
            await call.rest()
        if len(rows) + len(found) > ANSWERED_MAX:
            results.append({"error_code": Code.INVALID_REQUEST, "error_message": TOO_MANY})
            continue
        for name in found:
            del left[name]
        rows.update(found)
        results.append({"matching_acls": list(found.values())})
    refused = await change(call, ACT, [PolicyChange(name, None) for name in rows])
    for name, (code, text) in refused.items():
        rows[name].update(error_code=code, error_message=text)
    return {"filter_results": results}


API = Api(SCHEMA, handle)
