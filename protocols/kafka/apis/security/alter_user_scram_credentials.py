"""AlterUserScramCredentials (51), version 0: set and delete SCRAM passwords, durably. The client sends a salted one.

Of users whom the node knows; each with each mechanism once in a request. On record before it is done, without salts and
keys, as is what was refused for want of right.                                                     Source: KIP-554
"""
from __future__ import annotations

from collections import Counter
from typing import Any

from protocols.authentication.scram import credential_of
from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.security.describe_user_scram_credentials import NUMBERS
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.runtime.tasks import Later
from routing.errors import Refusal
from routing.ticket import Ticket

SCHEMA = Schema(51, "AlterUserScramCredentials", 0, 0, flexible=0, request="""
    deletions [] {
        name string
        mechanism int8
    }
    upsertions [] {
        name string
        mechanism int8
        iterations int32
        salt bytes
        salted_password bytes
    }
""", response="""
    throttle_time_ms int32
    results [] {
        user string
        error_code int16
        error_message string?
    }
""")

ITERATIONS_MIN, ITERATIONS_MAX = 4_096, 16_384          # Kafka's
SALT_BYTES_MAX = 1_024
NAMED_MAX = 1_000                       # users in one record of the audit trail
ACT = "kafka.scram.alter"
Refused = tuple[Code, str]


async def handle(call: Call, request: Message) -> Values:
    acts = [*request.deletions, *request.upsertions]
    times = Counter((act.name, act.mechanism) for act in acts)
    refused: dict[str, Refused] = {}
    for act in request.deletions:
        _note(refused, act, _refuse(call, act, times[act.name, act.mechanism]) or _refuse_deletion(call, act))
    for act in request.upsertions:
        _note(refused, act, _refuse(call, act, times[act.name, act.mechanism]) or _refuse_upsertion(call, act))
    await _record(call, request, refused)
    passwords, waiting = call.broker.logins.passwords, list[tuple[str, Ticket]]()
    for act in request.deletions:
        if act.name not in refused:
            waiting.append((act.name, passwords.delete(act.name, NUMBERS[act.mechanism])))
    for act in request.upsertions:
        if act.name not in refused:
            mechanism = NUMBERS[act.mechanism]
            waiting.append((act.name, passwords.set(act.name, mechanism, credential_of(
                mechanism, act.iterations, act.salt, act.salted_password))))
        await call.rest()
    for name, ticket in waiting:
        if (await call.durable(ticket)).refusals:
            refused[name] = Code.KAFKA_STORAGE_ERROR, "it could not be stored"
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(act.name for act in acts):
        code, text = refused.get(name, (Code.NONE, None))
        rows.append({"user": name, "error_code": code, "error_message": text})
    return {"results": rows}


async def _record(call: Call, request: Message, refused: dict[str, Refused]) -> None:
    """What cannot be written down is not done: it is refused, too."""
    policies = call.broker.policies
    if policies is None:
        return
    denied = sorted(name for name, why in refused.items() if why[0] == Code.CLUSTER_AUTHORIZATION_FAILED)
    if denied:
        policies.note_denial(call.identity, ACT, f"{', '.join(denied)[:500]}: it takes the right to manage")
    named: dict[str, list[str]] = {}
    for what, acts in (("deleted", request.deletions), ("set", request.upsertions)):
        for act in acts:
            if act.name not in refused:
                named.setdefault(act.name, []).append(f"{NUMBERS[act.mechanism]} {what}")
    if not named:
        return
    later: Later[Refusal | None] = Later()
    policies.record(call.identity, ACT, ", ".join(named)[:500], dict(list(named.items())[:NAMED_MAX]), later.set)
    refusal = await later
    if refusal is not None:
        refused.update(dict.fromkeys(named, (Code.KAFKA_STORAGE_ERROR, refusal.text)))


def _note(refused: dict[str, Refused], act: Message, why: Refused | None) -> None:
    if why is not None:
        refused.setdefault(act.name, why)


def _refuse(call: Call, act: Message, times: int) -> Refused | None:
    if not call.broker.topics.may_manage(call.identity):
        return Code.CLUSTER_AUTHORIZATION_FAILED, "it takes the right to manage"
    if act.mechanism not in NUMBERS:
        return Code.UNSUPPORTED_SASL_MECHANISM, "SCRAM-SHA-256 and SCRAM-SHA-512 are known"
    if times > 1:
        return Code.DUPLICATE_RESOURCE, "is named twice"
    return None


def _refuse_deletion(call: Call, act: Message) -> Refused | None:
    if call.broker.logins.passwords.find(act.name, NUMBERS[act.mechanism]) is None:
        return Code.RESOURCE_NOT_FOUND, "has no such password"
    return None


def _refuse_upsertion(call: Call, act: Message) -> Refused | None:
    if not call.broker.logins.passwords.knows(act.name):
        return Code.UNACCEPTABLE_CREDENTIAL, "the node does not know the user: make it first"
    if not ITERATIONS_MIN <= act.iterations <= ITERATIONS_MAX:
        return Code.UNACCEPTABLE_CREDENTIAL, f"iterations: from {ITERATIONS_MIN} to {ITERATIONS_MAX}"
    if not 0 < len(act.salt) <= SALT_BYTES_MAX or not act.salted_password:
        return Code.UNACCEPTABLE_CREDENTIAL, "a salt and a salted password"
    return None


API = Api(SCHEMA, handle)
