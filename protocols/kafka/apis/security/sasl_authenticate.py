"""SaslAuthenticate (36), versions 0 to 2: one step of a login. What is wrong is error 58, the same for an unknown user.

A connection that is logged in may do so again before its token ends (KIP-368): it stays who it was, and for longer.
                                                                                        Sources: KIP-152, KIP-368
"""
from __future__ import annotations

from protocols.authentication.sasl import Challenge
from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.runtime.tasks import Later
from routing.errors import Refusal
from routing.rights.policy import Identity

SCHEMA = Schema(36, "SaslAuthenticate", 0, 2, flexible=2, request="""
    auth_bytes bytes
""", response="""
    error_code int16
    error_message string?
    auth_bytes bytes
    session_lifetime_ms int64 1+
""")


async def handle(call: Call, request: Message) -> Values:
    client = call.client
    if not client.mechanism:
        client.end_after_answer()
        return {"error_code": Code.ILLEGAL_SASL_STATE, "error_message": "SaslHandshake comes first"}
    exchange = client.exchange or call.broker.logins.begin(client.mechanism, call.client_id, client.address)
    client.exchange = exchange
    later: Later[Identity | Refusal | Challenge] = Later()
    exchange.step(request.auth_bytes, later.set)
    outcome = await later
    if isinstance(outcome, Challenge):
        if outcome.identity is None:
            return {"error_code": Code.NONE, "auth_bytes": outcome.data}
        data, outcome = outcome.data, outcome.identity
    else:
        data = b""
    client.exchange, client.mechanism = None, ""
    if isinstance(outcome, Identity) and client.is_logged_in and outcome.user != call.identity.user:
        outcome = Refusal(call.broker.logins.refused.reason, "a connection stays with the user who opened it")
    if isinstance(outcome, Identity):
        outcome = client.log_in(outcome) or outcome
    if isinstance(outcome, Refusal):
        client.end_after_answer()
        return {"error_code": Code.SASL_AUTHENTICATION_FAILED, "error_message": outcome.text, "auth_bytes": data}
    lifetime_ms = 0
    if outcome.expires_ms is not None:
        lifetime_ms = max(outcome.expires_ms - call.broker.router.clock_ms(), 1)
    return {"error_code": Code.NONE, "auth_bytes": data, "session_lifetime_ms": lifetime_ms}


API = Api(SCHEMA, handle, before_login=True)
