"""ACL bindings ↔ rules of the node. Pure. What has no counterpart is said so, never kept for show.

    TOPIC  READ, WRITE             subscribe, publish on what the topic's name stands for: orders.eu → orders/eu/#
           a prefix orders.        orders/+/#          the literal *      #
    CLUSTER  DESCRIBE, ALTER, ALL  view, administer (and view), manage

What a rule says is what is listed: one that somebody changed by hand in the console is another binding, or none.
"""
from __future__ import annotations

import hashlib
from typing import Final

from protocols.kafka.acls.binding import (
    ANYTHING,
    CLUSTER_NAME,
    Binding,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from protocols.kafka.topics.names import captures, mesh_topic, name_problem
from routing.errors import TopicError
from routing.rights.policy import Action, Rule
from routing.topic import check_filter

NAME_BEGINS: Final = "kafka acl "       # names of the documents, one for each binding
_NAME_CHARACTERS: Final = 56            # of what people may read in it: 4 bytes each at most, of 255
ANY_HOST: Final = "*"

_ACTIONS: Final = {
    (ResourceType.TOPIC, Operation.READ): (Action.SUBSCRIBE,),
    (ResourceType.TOPIC, Operation.WRITE): (Action.PUBLISH,),
    (ResourceType.CLUSTER, Operation.DESCRIBE): (Action.VIEW,),
    (ResourceType.CLUSTER, Operation.ALTER): (Action.ADMINISTER,),
    (ResourceType.CLUSTER, Operation.ALL): (Action.MANAGE,),
}
_SEEING: Final = {(Action.ADMINISTER,): (Action.ADMINISTER, Action.VIEW)}       # who alters may describe, as in Kafka
_PLACES: Final[dict[tuple[Action, ...], tuple[ResourceType, Operation]]] = {
    actions: place for place, plain in _ACTIONS.items() for actions in (plain, _SEEING.get(plain, plain))}
_INSTEAD: Final = {
    ResourceType.TOPIC: "READ and WRITE have one; who made a topic may change and delete it, others need ALL on the "
                        "cluster",
    ResourceType.GROUP: "a group is its first user's, and of those who may read all that it reads",
    ResourceType.TRANSACTIONAL_ID: "a transactional id is its first user's",
    ResourceType.CLUSTER: "DESCRIBE, ALTER and ALL have one",
}


def rule_of(binding: Binding) -> Rule | str:
    """The rule that says the same; or why there is none."""
    actions = _ACTIONS.get((binding.resource_type, binding.operation))
    if actions is None:
        instead = _INSTEAD.get(binding.resource_type, "there are no such resources here")
        return f"{binding.permission.name} {binding.operation.name} on {binding.resource_type.name} has no " \
               f"counterpart in policies: {instead}"
    if binding.host != ANY_HOST:
        return "policies do not look at hosts: leave the host out, or say *"
    subject = _subject(binding.principal)
    if subject is None:
        return "the principal is User:NAME, Role:NAME, User:ANONYMOUS or User:*, and a name is a name, no pattern"
    filters: tuple[str, ...] = ()
    if binding.resource_type is ResourceType.TOPIC:
        found = _filters(binding)
        if isinstance(found, str):
            return found
        filters = found
    if binding.permission is Permission.ALLOW:
        return Rule(allow=_SEEING.get(actions, actions), to=(subject,), topics=filters, name=document_name(binding))
    return Rule(deny=actions, to=(subject,), topics=filters, name=document_name(binding))


def binding_of(rule: Rule) -> Binding | None:
    """The binding that a rule is; None: it is none."""
    place = _PLACES.get(rule.allow or rule.deny)
    if place is None or len(rule.to) != 1 or (rule.allow and rule.deny):
        return None
    principal = _principal(rule.to[0])
    named = (CLUSTER_NAME, PatternType.LITERAL) if not rule.topics else None
    if place[0] is ResourceType.TOPIC:
        named = _topic(rule.topics[0]) if len(rule.topics) == 1 else None
    if principal is None or named is None:
        return None
    permission = Permission.ALLOW if rule.allow else Permission.DENY
    return Binding(place[0], *named, principal, ANY_HOST, place[1], permission)


def document_name(binding: Binding) -> str:
    """The same for the same binding. Names of documents have no wildcards in them."""
    digest = hashlib.sha256(repr(binding).encode("utf-8", "backslashreplace")).hexdigest()[:12]
    words = str(binding).lower().replace(":*", " anybody").replace(":", " ").split()
    readable = " ".join(words)[:_NAME_CHARACTERS]
    return NAME_BEGINS + "".join(one if one.isalnum() or one in " ._-" else "" for one in readable) + f" {digest}"


def _filters(binding: Binding) -> tuple[str, ...] | str:
    name = binding.name
    if binding.pattern_type is PatternType.LITERAL:
        if name == ANYTHING:
            return ("#",)
        problem = name_problem(name)
        found = captures(name)
    else:
        problem = name_problem(name)
        if problem is None and not name.endswith("."):
            problem = "a prefix ends with a dot here, which is the end of a level of the mesh topic: orders. has a " \
                      "counterpart, ord has not"
        found = (f"{mesh_topic(name)}+/#",)
    if problem is not None:
        return problem
    try:
        check_filter(found[0])
    except TopicError as error:
        return str(error)
    return found


def _topic(pattern: str) -> tuple[str, PatternType] | None:
    if pattern == "#":
        return ANYTHING, PatternType.LITERAL
    kind = PatternType.PREFIXED if pattern.endswith("/+/#") else PatternType.LITERAL
    base = pattern.removesuffix("+/#") if kind is PatternType.PREFIXED else pattern.removesuffix("/#")
    if base == pattern or "." in base:
        return None
    name = base.replace("/", ".")
    return (name, kind) if name_problem(name) is None else None


def _subject(principal: str) -> str | None:
    kind, _, name = principal.partition(":")
    if kind not in ("User", "Role") or not name or "%" in name:
        return None
    if kind == "Role":
        return f"role:{name}"
    return {ANYTHING: "*", "ANONYMOUS": "anonymous"}.get(name, f"user:{name}")


def _principal(subject: str) -> str | None:
    kind, _, name = subject.partition(":")
    if not name:
        return {"*": "User:*", "anonymous": "User:ANONYMOUS"}.get(subject)
    return f"{kind.capitalize()}:{name}" if "%" not in name else None
