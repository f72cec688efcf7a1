"""Share sessions: what a member of a share group fetches from, and its place in the order of requests. Source: KIP-932

    epoch  0    a session begins; one that was there is over
    epoch  n    the next request of it: fetch or acknowledge
    epoch -1    acknowledge, and end it: what is not acknowledged goes to others

A session lives on the connection that began it: when that is lost, what it holds goes to others at once.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocols.kafka.codec.errors import Code
from protocols.kafka.runtime.client import Client
from protocols.kafka.sharing.groups import ShareGroups
from protocols.kafka.sharing.reader import Reader
from protocols.kafka.topics.table import Topics
from routing.fairness.shares import Share

if TYPE_CHECKING:
    from routing.log.partition import Partition

FINAL_EPOCH, INITIAL_EPOCH = -1, 0
EPOCH_MAX = 2 ** 31 - 1

Place = tuple[bytes, int]               # topic id and partition


class ShareSession:
    """Loop thread only."""

    __slots__ = ("client", "epoch", "group_id", "held_for", "member_id", "places", "reader")

    def __init__(self, group_id: str, member_id: str, reader: Reader, client: Client) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.reader = reader
        self.client = client
        self.epoch = 1                                  # of the next request
        self.places: dict[Place, None] = {}
        self.held_for = client.identity.user            # to whose share its partitions count


class ShareSessions:
    """One per broker. Loop thread only."""

    def __init__(self, groups: ShareGroups, topics: Topics, share: Share, places_max: int, members_max: int,
                 each_max: int) -> None:
        """share: of partitions in sessions, of which there may be places_max; a session counts as one more.
        members_max: sessions of one group. each_max: partitions of one session.
        """
        self._groups = groups
        self._members_max = members_max
        self._each_max = each_max
        self._topics = topics
        self._share = share
        self._places_max = places_max
        self._by_member: dict[tuple[str, str], ShareSession] = {}
        groups.on_fenced.append(self._fenced)

    def begin(self, group_id: str, member_id: str, client: Client) -> ShareSession | Code:
        before = self._by_member.get((group_id, member_id))
        if before is not None:
            self.end(before, in_peace=False)
        consumer = self._groups.consumer(group_id)
        if consumer is None:
            return Code.GROUP_ID_NOT_FOUND
        user = client.identity.user
        if len(consumer.members.all) >= self._members_max or (
                self._share.take(user, self._places_max, 1) is not None):
            return Code.SHARE_SESSION_LIMIT_REACHED
        reader = Reader(client.identity)
        if consumer.attach(reader) is not None:
            self._share.give(user, 1)
            return Code.GROUP_AUTHORIZATION_FAILED
        reader.consumer = consumer
        session = self._by_member[group_id, member_id] = ShareSession(group_id, member_id, reader, client)
        client.on_closed[session] = lambda: self.end(session, in_peace=False)
        reader.limit(set())
        return session

    def find(self, group_id: str, member_id: str, epoch: int, client: Client) -> ShareSession | Code:
        """The session that a request goes on with, or ends."""
        session = self._by_member.get((group_id, member_id))
        if session is None or session.client is not client:
            return Code.SHARE_SESSION_NOT_FOUND
        if session.reader.consumer is None:             # the consumer was deleted, or he may not read it any more
            self.end(session, in_peace=False)
            return Code.SHARE_SESSION_NOT_FOUND
        if epoch not in (FINAL_EPOCH, session.epoch):
            return Code.INVALID_SHARE_SESSION_EPOCH
        session.epoch = session.epoch + 1 if session.epoch < EPOCH_MAX else 1
        return session

    def change(self, session: ShareSession, added: Iterable[Place], forgotten: Iterable[Place]) -> Code:
        """Fetch from these, too, and from those no more."""
        if not self._is_there(session):
            return Code.SHARE_SESSION_NOT_FOUND         # it ended while the acks of this request went to the disk
        wanted = {**session.places, **dict.fromkeys(added)}
        for place in forgotten:
            wanted.pop(place, None)
        if wanted.keys() == session.places.keys():
            return Code.NONE
        more = len(wanted) - len(session.places)
        if more > 0 and len(wanted) > self._each_max:
            return Code.SHARE_SESSION_LIMIT_REACHED
        if more > 0 and self._share.take(session.held_for, self._places_max, more) is not None:
            return Code.SHARE_SESSION_LIMIT_REACHED
        if more < 0:
            self._share.give(session.held_for, -more)
        session.places = wanted
        session.reader.limit({found for place in wanted if (found := self.partition(place)) is not None})
        return Code.NONE

    def partition(self, place: Place) -> Partition | None:
        stream = self._topics.by_id(place[0])
        known = stream is not None and 0 <= place[1] < len(stream.partitions)
        return stream.partitions[place[1]] if stream is not None and known else None

    def end(self, session: ShareSession, *, in_peace: bool) -> None:
        if not self._is_there(session):
            return
        del self._by_member[session.group_id, session.member_id]
        session.client.on_closed.pop(session, None)
        self._share.give(session.held_for, 1 + len(session.places))
        session.places = {}
        session.reader.leave(in_peace=in_peace)

    def _is_there(self, session: ShareSession) -> bool:
        return self._by_member.get((session.group_id, session.member_id)) is session

    def _fenced(self, group_id: str, member_id: str) -> None:
        session = self._by_member.get((group_id, member_id))
        if session is not None:
            self.end(session, in_peace=False)
