"""Member: one client of a group, as the coordinator knows it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from protocols.kafka.runtime.tasks import Later
from protocols.kafka.runtime.timers import Timer

Protocols = list[tuple[str, bytes]]         # name and what the member says of itself, in the order of its liking


class Joining(msgspec.Struct, frozen=True):
    """What a client says when it joins."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_s: float
    rebalance_timeout_s: float
    protocol_type: str
    protocols: Protocols
    wants_known_id: bool            # JoinGroup 4 and above: the first join without an id is answered with one


class Member:
    """Loop thread only. Owned by its group."""

    __slots__ = ("assignment", "client_host", "client_id", "deadline_s", "instance_id", "joins", "member_id",
                 "protocols", "rebalance_timeout_s", "session_timeout_s", "syncs", "timer")

    def __init__(self, member_id: str, joining: Joining) -> None:
        self.member_id = member_id
        self.assignment = b""
        self.deadline_s = 0.0                                   # then its session is over
        self.timer: Timer | None = None
        self.joins: Later[Mapping[str, Any]] | None = None      # it waits for the answer to JoinGroup,
        self.syncs: Later[Mapping[str, Any]] | None = None      # or to SyncGroup
        self.take(joining)

    def take(self, joining: Joining) -> None:
        self.instance_id = joining.instance_id
        self.client_id = joining.client_id
        self.client_host = joining.client_host
        self.session_timeout_s = joining.session_timeout_s
        self.rebalance_timeout_s = joining.rebalance_timeout_s
        self.protocols = joining.protocols

    def metadata(self, protocol: str) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    @property
    def size_bytes(self) -> int:
        return sum(len(name) + len(metadata) for name, metadata in self.protocols)

    @property
    def waits(self) -> bool:
        """It has asked and was not answered: its session does not end meanwhile."""
        return self.joins is not None or self.syncs is not None


class StoredMember(msgspec.Struct, frozen=True, array_like=True):
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_s: float
    rebalance_timeout_s: float
    protocols: Protocols
    assignment: bytes


class StoredGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a group is while nothing moves in it: it goes on with that after a crash."""

    owner: str
    generation: int
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: tuple[StoredMember, ...] = ()
