"""ACL bindings and filters of them, as clients say them.        Sources: KIP-140, KIP-290, class AclBindingFilter"""
from __future__ import annotations

import enum
from typing import Any

import msgspec

from protocols.kafka.codec.read import Message

CLUSTER_NAME = "kafka-cluster"      # of the one resource of the type CLUSTER
ANYTHING = "*"                      # a literal name that stands for all


class ResourceType(enum.IntEnum):
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class PatternType(enum.IntEnum):
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Operation(enum.IntEnum):
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Permission(enum.IntEnum):
    ANY = 1
    DENY = 2
    ALLOW = 3


class Binding(msgspec.Struct, frozen=True, order=True):
    """Somebody (principal, "User:ana") may or may not do something with a resource, or with all of a prefix."""

    resource_type: ResourceType
    name: str
    pattern_type: PatternType
    principal: str
    host: str
    operation: Operation
    permission: Permission

    def __str__(self) -> str:
        prefix = "*" if self.pattern_type is PatternType.PREFIXED else ""
        return f"{self.permission.name} {self.principal} {self.operation.name} {self.resource_type.name} " \
               f"{self.name}{prefix}"

    def row(self) -> dict[str, Any]:
        """The fields that answers have of it."""
        return {"resource_type": self.resource_type, "resource_name": self.name, "pattern_type": self.pattern_type,
                "principal": self.principal, "host": self.host, "operation": self.operation,
                "permission_type": self.permission}


class Filter(msgspec.Struct, frozen=True):
    """Which bindings are meant. None: any."""

    resource_type: ResourceType
    name: str | None
    pattern_type: PatternType
    principal: str | None
    host: str | None
    operation: Operation
    permission: Permission

    def matches(self, binding: Binding) -> bool:
        return (self.principal in (None, binding.principal) and self.host in (None, binding.host)
                and self.resource_type in (ResourceType.ANY, binding.resource_type)
                and self.operation in (Operation.ANY, binding.operation)
                and self.permission in (Permission.ANY, binding.permission) and self._matches_name(binding))

    def _matches_name(self, binding: Binding) -> bool:
        if self.pattern_type not in (PatternType.ANY, PatternType.MATCH, binding.pattern_type):
            return False
        if self.name is None or self.name == binding.name:
            return True
        if self.pattern_type is not PatternType.MATCH:
            return False
        if binding.pattern_type is PatternType.PREFIXED:
            return self.name.startswith(binding.name)
        return binding.name == ANYTHING


def binding_from(message: Message) -> Binding | str:
    """Of one creation; or why it is none."""
    try:
        binding = Binding(
            ResourceType(message.resource_type), message.resource_name, PatternType(message.resource_pattern_type),
            message.principal, message.host, Operation(message.operation), Permission(message.permission_type))
    except ValueError as error:
        return f"{error}: not known here"
    if ResourceType.ANY in (binding.resource_type, binding.operation, binding.permission) or (
            binding.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED)):
        return "ANY and MATCH are for filters: an ACL names its resource, operation, permission and kind of pattern"
    if not binding.name:
        return "the name of the resource is missing"
    if binding.resource_type is ResourceType.CLUSTER and (
            binding.name != CLUSTER_NAME or binding.pattern_type is not PatternType.LITERAL):
        return f"the cluster is the literal resource {CLUSTER_NAME}"
    return binding


def filter_from(message: Message) -> Filter | str:
    """Of one filter; or why it is none."""
    try:
        return Filter(
            ResourceType(message.resource_type_filter), message.resource_name_filter,
            PatternType(message.pattern_type_filter), message.principal_filter, message.host_filter,
            Operation(message.operation), Permission(message.permission_type))
    except ValueError as error:
        return f"{error}: not known here"
