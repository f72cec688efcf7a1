"""ApiVersions (18), versions 0 to 4: what is served. Asked first by every client, before any login.

A version that is not served is answered by connection.py in the layout of version 0, with error 35 and the whole
table. No feature is announced that is not served, transaction.version (KIP-890) among them: with Produce up to 11 it
breaks transactions of Java and franz-go.                                 Sources: KIP-35, KIP-511, KIP-584, KAFKA-18659
"""
from __future__ import annotations

import re

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(18, "ApiVersions", 0, 4, flexible=3, request="""
    client_software_name string 3+
    client_software_version string 3+
""", response="""
    error_code int16
    api_keys [] {
        api_key int16
        min_version int16
        max_version int16
    }
    throttle_time_ms int32 1+
    supported_features [] 3+ tag=0 {
        name string
        min_version int16
        max_version int16
    }
    finalized_features_epoch int64 3+ tag=1 = -1
    finalized_features [] 3+ tag=2 {
        name string
        max_version_level int16
        min_version_level int16
    }
    zk_migration_ready bool 3+ tag=3
""")

FEATURES = {"group.version": 1, "share.version": 1}         # consumer groups (KIP-848), share groups (KIP-932)
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]{0,199}[a-zA-Z0-9])?")


async def handle(call: Call, request: Message) -> Values:
    if call.version >= 3:
        names = request.client_software_name, request.client_software_version
        if not all(_SOFTWARE.fullmatch(name) for name in names):
            return {"error_code": Code.INVALID_REQUEST}
        call.client.software = " ".join(names)
    supported = [{"name": name, "min_version": 0, "max_version": level} for name, level in FEATURES.items()]
    finalized = [{"name": name, "max_version_level": level, "min_version_level": level}
                 for name, level in FEATURES.items()]
    return {"api_keys": call.broker.api_rows, "finalized_features_epoch": 0, "finalized_features": finalized,
            "supported_features": supported if call.version >= 4 else []}       # not with a minimum of 0 before


API = Api(SCHEMA, handle, before_login=True)
