"""SaslHandshake (17), versions 0 and 1: which mechanism a login goes by. Version 0 is followed by bytes without frames
of Kafka's, which this server does not take: its clients are told by the list of mechanisms being empty (error 33).
                                                                                        Sources: KIP-43, KIP-152
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(17, "SaslHandshake", 0, 1, flexible=None, request="""
    mechanism string
""", response="""
    error_code int16
    mechanisms []string
""")


async def handle(call: Call, request: Message) -> Values:
    mechanisms = call.broker.logins.mechanisms
    if call.version == 0:
        return {"error_code": Code.UNSUPPORTED_SASL_MECHANISM, "mechanisms": []}
    if call.client.is_logging_in:
        return {"error_code": Code.ILLEGAL_SASL_STATE, "mechanisms": list(mechanisms)}
    if request.mechanism not in mechanisms:
        return {"error_code": Code.UNSUPPORTED_SASL_MECHANISM, "mechanisms": list(mechanisms)}
    call.client.mechanism = request.mechanism
    return {"error_code": Code.NONE, "mechanisms": list(mechanisms)}


API = Api(SCHEMA, handle, before_login=True)
