"""What the three ACL APIs share: who may, which bindings there are, and changes of them in steps."""
from __future__ import annotations

from protocols.kafka.acls.binding import Binding
from protocols.kafka.acls.mapping import NAME_BEGINS, binding_of
from protocols.kafka.api import Call
from protocols.kafka.codec.errors import Code
from protocols.kafka.runtime.tasks import Later
from protocols.managed import CHANGES_MAX, PolicyChange
from routing.errors import Reason, Refusal

ANSWERED_MAX = 2_000        # ACLs in one answer, which is written in one turn: some 7 us each
TOO_MANY = f"more than {ANSWERED_MAX:,} ACLs match: name a resource or a principal"
Refused = tuple[Code, str]
_CODES = {Reason.NOT_AUTHORIZED: Code.CLUSTER_AUTHORIZATION_FAILED, Reason.PAYLOAD_INVALID: Code.INVALID_REQUEST,
          Reason.CONFLICT: Code.POLICY_VIOLATION}


def refuse_change(call: Call, act: str) -> Refused | None:
    """Whether the client may change ACLs on this node."""
    policies = call.broker.policies
    if policies is None or call.broker.authenticator.open:
        return Code.SECURITY_DISABLED, "nobody logs in on this node, and everybody may do everything"
    refusal = policies.refuse(call.identity, act)
    return refused_as(refusal) if refusal is not None else None


def refused_as(refusal: Refusal) -> Refused:
    return _CODES.get(refusal.reason, Code.KAFKA_STORAGE_ERROR), refusal.text


async def bindings(call: Call) -> dict[str, Binding]:
    """The bindings in force, by the names of their documents. Goes in steps."""
    found: dict[str, Binding] = {}
    for rule in call.broker.policies.in_force(NAME_BEGINS) if call.broker.policies is not None else ():
        binding = binding_of(rule)
        if binding is not None:
            found[rule.name] = binding
        await call.rest()
    return found


async def change(call: Call, act: str, changes: list[PolicyChange]) -> dict[str, Refused]:
    """Make them, so many at a time; what was refused, by the names of the documents.

    Where one of many is not well-formed, each is tried by itself, so that it is refused alone.
    """
    refused: dict[str, Refused] = {}
    for start in range(0, len(changes), CHANGES_MAX):
        part = changes[start:start + CHANGES_MAX]
        refusal = await _change(call, act, part)
        if refusal is None:
            continue
        if refusal.reason is Reason.PAYLOAD_INVALID and len(part) > 1:
            for one in part:
                alone = await _change(call, act, [one])
                if alone is not None:
                    refused[one.name] = refused_as(alone)
        else:
            refused.update((one.name, refused_as(refusal)) for one in part)
    return refused


async def _change(call: Call, act: str, changes: list[PolicyChange]) -> Refusal | None:
    assert call.broker.policies is not None
    later: Later[Refusal | None] = Later()
    call.broker.policies.change(call.identity, act, changes, later.set)
    return await later
