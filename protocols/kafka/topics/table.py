"""Topics: the streams of a node as Kafka topics, and who may do what with them.

    read        subscribe to everything that the stream may hold, with no part denied: records come as stored
    write       publish to the topic of records that name none; the door in asks again for those that name another
    describe    read or write any part of it, or manage
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterator

from protocols.kafka.settings import KafkaSettings
from protocols.kafka.topics.names import mesh_topic
from routing.errors import Refusal
from routing.fairness.shares import Share
from routing.rights.policy import Action, Identity
from routing.router import Router
from routing.streams.streams import Stream

OWN_MARK = "$"          # begins the names of the node's own streams, as that of what went straight to queues


class Topics:
    """One per broker, without the node's own streams. Loop thread only."""

    def __init__(self, router: Router, settings: KafkaSettings) -> None:
        self._router = router
        self._settings = settings
        self._policy = router.policy
        self.version = 0                                        # grows whenever there are other topics or partitions
        self._by_id: dict[bytes, Stream] | None = None          # made when it is asked for
        self._cluster_id = ""
        router.on_streams.append(self._changed)

    def __iter__(self) -> Iterator[Stream]:
        return (stream for stream in self._router.streams if not stream.name.startswith(OWN_MARK))

    def find(self, name: str) -> Stream | None:
        return None if name.startswith(OWN_MARK) else self._router.streams.by_name.get(name)

    def name_of(self, stream: Stream) -> str:
        return stream.name

    def id_of(self, stream: Stream) -> bytes:
        """16 bytes that no other stream has, nor a later one of the same name."""
        if self._cluster_id and self._router.lifecycle.is_configured(stream.name):      # it has no other name there
            return hashlib.sha256(f"{self._cluster_id}/{stream.name}".encode()).digest()[:16]
        return stream.incarnation

    def name_ids_by(self, cluster_id: str) -> None:
        """Several nodes are one cluster: streams of their configuration files have the same id on all of them."""
        self._cluster_id = cluster_id

    def by_id(self, topic_id: bytes) -> Stream | None:
        if self._by_id is None:
            self._by_id = {self.id_of(stream): stream for stream in self}
        return self._by_id.get(topic_id)

    def _changed(self) -> None:
        """Streams were made, changed or deleted."""
        self._by_id = None
        self.version += 1

    def refuse_more(self, user: str) -> Refusal | None:
        """Whether this user may have one more: there is a ceiling, and a share of it for each."""
        share = Share("topics", lambda: self._router.limits.user_share)
        for stream in self:
            share.add(self._router.lifecycle.owner(stream.name))
        return share.refuse(user, self._settings.topics_max)

    # -- rights -----------------------------------------------------------------------------------------------

    def may(self, identity: Identity, action: Action) -> bool:
        return self._policy.decide(identity, action).allowed

    def may_manage(self, identity: Identity) -> bool:
        return self.may(identity, Action.MANAGE)

    def may_read(self, identity: Identity, stream: Stream) -> bool:
        return self._router.rights.may_read_all(identity, stream.filters)

    def may_write(self, identity: Identity, stream: Stream) -> bool:
        """To any topic that the stream takes: which one it is depends on the record."""
        permissions = self._policy.permissions(identity)
        return any(permissions.allows_part_of(pattern, Action.PUBLISH) for pattern in stream.filters)

    def may_describe(self, identity: Identity, stream: Stream) -> bool:
        return self.may_write(identity, stream) or self.may_manage(identity) or any(
            self._router.rights.may_read_part(identity, pattern) for pattern in stream.filters)

    def may_write_new(self, identity: Identity, name: str) -> bool:
        """May a topic of this name be made for the user, who would publish to it?"""
        return self._policy.decide(identity, Action.PUBLISH, mesh_topic(name)).allowed

    def may_create(self, identity: Identity, name: str) -> bool:
        """Who may manage; and, where topics are made by use, who may publish to it and read all of it."""
        return self.may_manage(identity) or (
            self._settings.auto_create_topics and self.may_write_new(identity, name)
            and self._router.rights.may_read_all(identity, (f"{mesh_topic(name)}/#",)))

    def may_change(self, identity: Identity, stream: Stream) -> bool:
        """Its configuration, partitions and records, or delete it."""
        return self.may_manage(identity) or self.owns(identity, stream)

    def owns(self, identity: Identity, stream: Stream) -> bool:
        """It was made for this user."""
        return bool(identity.user) and self._router.lifecycle.owner(stream.name) == identity.user

    def note_denial(self, identity: Identity, stream: Stream, action: Action = Action.SUBSCRIBE) -> None:
        """Count a denial and list it, for operators."""
        for pattern in stream.filters:
            if self._policy.refuse(identity, action, pattern, self._router.clock_ms()) is not None:
                return
        self._policy.record_denial(identity, action, stream.name, "part of it is denied", self._router.clock_ms())
