"""CreateAcls (30), versions 1 to 3: ACLs become managed policies, durably and at once.      Sources: KIP-140, KIP-290

One that is there already is no error. One that the node could not enforce is refused, see acls/mapping.py; one that
holds anyway is accepted and not kept, see acls/implied.py.
"""
from __future__ import annotations

from protocols.kafka.acls.acting import Refused, bindings, change, refuse_change
from protocols.kafka.acls.binding import ANYTHING, Binding, PatternType, ResourceType, binding_from
from protocols.kafka.acls.implied import Allowed, is_implied
from protocols.kafka.acls.mapping import rule_of
from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics.names import captures
from protocols.managed import PolicyChange
from routing.topic import filter_covers

SCHEMA = Schema(30, "CreateAcls", 1, 3, flexible=2, request="""
    creations [] {
        resource_type int8
        resource_name string
        resource_pattern_type int8 = 3
        principal string
        host string
        operation int8
        permission_type int8
    }
""", response="""
    throttle_time_ms int32
    results [] {
        error_code int16
        error_message string?
    }
""")

ACT = "kafka.acls.create"


async def handle(call: Call, request: Message) -> Values:
    no = refuse_change(call, ACT)
    if no is not None:
        return _answer([no] * len(request.creations))
    there = await bindings(call)
    allowed = Allowed(there.values())
    results: list[Refused | None] = []
    names: list[str] = []                       # of the documents, by the places of their bindings
    changes: dict[str, PolicyChange] = {}
    implied: list[tuple[int, Binding]] = []
    made: list[tuple[str, Binding]] = []
    for place, creation in enumerate(request.creations):
        asked = binding_from(creation)
        name, why = "", None
        if not isinstance(asked, Binding):
            why = Code.INVALID_REQUEST, asked
        elif is_implied(asked):
            implied.append((place, asked))
        else:
            rule = rule_of(asked)
            problem = rule if isinstance(rule, str) else _other_topics(call, asked)
            if problem is not None:
                why = Code.POLICY_VIOLATION, problem
            elif not isinstance(rule, str):
                name = rule.name
                made.append((name, asked))
                if there.get(name) != asked:
                    changes[name] = PolicyChange(name, rule, f"Kafka ACL: {asked}"[:500])
        results.append(why)
        names.append(name)
        await call.rest()
    refused = await change(call, ACT, list(changes.values()))
    for name, binding in made:
        if name not in refused:
            allowed.add(binding)
    results = [refused.get(name, why) for name, why in zip(names, results)]
    for place, binding in implied:              # with those that have come with them
        problem = allowed.refuse(binding)
        if problem is not None:
            results[place] = Code.POLICY_VIOLATION, problem
        await call.rest()
    return _answer(results)


def _other_topics(call: Call, binding: Binding) -> str | None:
    """A stream of the configuration may capture what its name does not say: an ACL by name would not hold for it."""
    if binding.resource_type is not ResourceType.TOPIC or binding.name == ANYTHING:
        return None
    stream = call.broker.topics.find(binding.name) if binding.pattern_type is PatternType.LITERAL else None
    own, = captures(binding.name)
    if stream is None or all(filter_covers(own, pattern) for pattern in stream.filters):
        return None
    return f"the topic {binding.name} holds {', '.join(stream.filters)}, and not {own}, as its name says: write a " \
           "policy for these mesh topics instead"


def _answer(results: list[Refused] | list[Refused | None]) -> Values:
    return {"results": [{"error_code": why[0], "error_message": why[1]} if why is not None else {} for why in results]}


API = Api(SCHEMA, handle)
