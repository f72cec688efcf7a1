"""ACLs that say what the node allows anyway: accepted, and not kept. Pure.

    TOPIC  DESCRIBE, DESCRIBE_CONFIGS      with READ or WRITE on the same topics
    TOPIC  CREATE                          with WRITE on them: a topic is made by use
    GROUP  READ, DESCRIBE                  always: a group is its first user's, and of those who may read what it reads
    TRANSACTIONAL_ID  WRITE, DESCRIBE      always: an id is its first user's
    CLUSTER  IDEMPOTENT_WRITE              always

So `kafka-acls --producer` and `--consumer` work, which say all of it, in a request for each resource in any order.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocols.kafka.acls.binding import Binding, Operation, PatternType, Permission, ResourceType

_READ, _WRITE = (Operation.READ,), (Operation.WRITE,)
_WITH: Final[dict[tuple[ResourceType, Operation], tuple[Operation, ...]]] = {
    (ResourceType.TOPIC, Operation.DESCRIBE): _READ + _WRITE,
    (ResourceType.TOPIC, Operation.DESCRIBE_CONFIGS): _READ + _WRITE,
    (ResourceType.TOPIC, Operation.CREATE): _WRITE,
    (ResourceType.GROUP, Operation.READ): (),
    (ResourceType.GROUP, Operation.DESCRIBE): (),
    (ResourceType.TRANSACTIONAL_ID, Operation.WRITE): (),
    (ResourceType.TRANSACTIONAL_ID, Operation.DESCRIBE): (),
    (ResourceType.CLUSTER, Operation.IDEMPOTENT_WRITE): (),
}


def is_implied(binding: Binding) -> bool:
    """It holds anyway, or comes with another one."""
    return binding.permission is Permission.ALLOW and (binding.resource_type, binding.operation) in _WITH


class Allowed:
    """What ACLs allow on topics."""

    def __init__(self, bindings: Iterable[Binding] = ()) -> None:
        self._on_topics: set[tuple[str, str, PatternType, Operation]] = set()
        for binding in bindings:
            self.add(binding)

    def add(self, binding: Binding) -> None:
        if binding.permission is Permission.ALLOW and binding.resource_type is ResourceType.TOPIC:
            self._on_topics.add((binding.principal, binding.name, binding.pattern_type, binding.operation))

    def refuse(self, binding: Binding) -> str | None:
        """Why an implied binding does not hold, or None: it does."""
        needs = _WITH[binding.resource_type, binding.operation]
        place = binding.principal, binding.name, binding.pattern_type
        if not needs or any((*place, operation) in self._on_topics for operation in needs):
            return None
        names = " or ".join(operation.name for operation in needs)
        return f"ALLOW {binding.operation.name} comes with {names} on the same topics here, and with nothing else: " \
               f"add that for {binding.principal}"
