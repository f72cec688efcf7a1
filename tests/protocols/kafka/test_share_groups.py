"""Share groups (KIP-932) wired in memory: sessions, acks of any shape, crashes, rights, bounds, hostile members."""
from __future__ import annotations

import shutil

import msgspec
import pytest

from protocols.kafka.settings import KafkaSettings
from routing.consumers.definition.spec import ConsumerSpec
from routing.queues.options import QueueOptions
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.protocols.kafka.harness import Broker, batch
from tests.support.routing import ANA, Reader

INVALID, UNKNOWN, FENCED, NOT_A_SHARE_GROUP, STATE, NO_SESSION, SESSION_EPOCH = 42, 25, 110, 69, 121, 122, 123
ACCEPT, RELEASE, REJECT, RENEW, GAP = 1, 2, 3, 4, 0
STREAMS = (StreamSettings("one", ("one/#",), partitions=1), StreamSettings("two", ("two/#",), partitions=2))
SETTINGS = KafkaSettings(share_session_timeout_ms=10_000, share_lock_ms=2_000)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path, SETTINGS, streams=STREAMS)
    options(broker, **{"share.auto.offset.reset": "earliest"})
    yield broker
    broker.close()


def options(broker, group="g", **values):
    answer = broker.connect().ask("IncrementalAlterConfigs", 1, resources=[
        {"resource_type": 32, "resource_name": group, "configs": [
            {"name": name, "config_operation": 0, "value": value} for name, value in values.items()]}])
    return answer.responses[0].error_code


def produce(broker, *values, topic="one", partition=0):
    answer = broker.connect().ask("Produce", 9, acks=-1, timeout_ms=1_000, topic_data=[
        {"name": topic, "partition_data": [{"index": partition, "records": batch(*values)}]}])
    assert answer.responses[0].partition_responses[0].error_code == 0


class Member:
    """A share consumer with a connection of its own."""

    def __init__(self, broker, name="m", topics=("one",), group="g"):
        self.broker, self.client, self.name, self.topics, self.group = broker, broker.connect(), name, topics, group
        self.epoch, self.session, self.places = 0, 0, []

    def beat(self, **values):
        request = {"group_id": self.group, "member_id": self.name, "member_epoch": self.epoch,
                   "subscribed_topic_names": self.topics if self.epoch == 0 else None, **values}
        answer = self.client.ask("ShareGroupHeartbeat", 1, **request)
        if not answer.error_code:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                self.places = [(topic.topic_id, index) for topic in answer.assignment.topic_partitions
                               for index in topic.partitions]
        return answer.error_code

    def join(self):
        assert self.beat() == 0
        return self

    def request(self, acks, places=()):
        """acks: (first, last, types) of the first partition."""
        topics = {}
        for topic_id, index in places:
            topics.setdefault(topic_id, {})[index] = []
        if acks:
            topics.setdefault(self.places[0][0], {})[self.places[0][1]] = [
                {"first_offset": first, "last_offset": last, "acknowledge_types": types} for first, last, types in acks]
        return [{"topic_id": topic_id, "partitions": [
            {"partition_index": index, "acknowledgement_batches": batches} for index, batches in found.items()]}
            for topic_id, found in topics.items()]

    def send_fetch(self, *acks, count=100, wait_ms=0, **values):
        self.client.send("ShareFetch", 2, **{
            "group_id": self.group, "member_id": self.name, "share_session_epoch": self.session, "max_wait_ms": wait_ms,
            "min_bytes": 1, "max_records": count, "batch_size": count,
            "topics": self.request(acks, self.places if self.session == 0 else ()), **values})

    def took(self, answers):
        answer, = answers
        self.answer = answer
        if answer.error_code:
            return answer.error_code
        self.session += 1
        return [(row.first_offset, row.last_offset, row.delivery_count)
                for topic in answer.responses for partition in topic.partitions for row in partition.acquired_records]

    def fetch(self, *acks, **values):
        """The ranges that it acquired, or the error of the request."""
        self.send_fetch(*acks, **values)
        found = self.client.answers()
        for _ in range(3):                                      # nothing there: its wait is over
            if not found:
                self.broker.tick(0.06)
                found = self.client.answers()
        return self.took(found)

    def acknowledge(self, *acks, epoch=None):
        """The error of the request, or that of the first partition."""
        answer = self.client.ask("ShareAcknowledge", 2, group_id=self.group, member_id=self.name,
                                 share_session_epoch=self.session if epoch is None else epoch,
                                 topics=self.request(acks))
        if answer.error_code:
            return answer.error_code
        self.session += 1
        return answer.responses[0].partitions[0].error_code if answer.responses else 0

    def records(self):
        return answer_records(self.answer)


def answer_records(answer):
    return b"".join(partition.records for topic in answer.responses for partition in topic.partitions)


def test_records_are_acquired_and_acked_one_by_one_and_the_rest_comes_again(broker):
    produce(broker, b"a", b"b", b"c", b"d", b"e")
    member = Member(broker).join()
    assert member.fetch() == [(0, 4, 1)] and b"c" in member.records()
    assert member.fetch() == []                                 # they are with somebody
    assert member.acknowledge((0, 3, [ACCEPT, RELEASE, REJECT, RELEASE]), (4, 4, [ACCEPT])) == 0
    assert member.fetch() == [(1, 1, 2), (3, 3, 2)]
    assert member.acknowledge((1, 1, [ACCEPT]), (3, 3, [ACCEPT])) == 0 and member.fetch() == []
    assert broker.router.registry.by_name["g"].lag().events == 0


def test_never_more_than_asked_for_and_one_batch_may_be_with_several_members(broker):
    produce(broker, b"a", b"b", b"c", b"d")
    one, two = Member(broker, "1").join(), Member(broker, "2").join()
    assert one.fetch(count=2) == [(0, 1, 1)] and two.fetch(count=3) == [(2, 3, 1)]
    assert one.records() == two.records()                       # the whole batch; its reader leaves out what it has not
    assert two.acknowledge((0, 0, [ACCEPT])) == STATE           # that is the other one's
    assert two.acknowledge((2, 2, [ACCEPT]), (4, 4, [ACCEPT])) == STATE
    assert two.acknowledge((2, 3, [ACCEPT])) == 0, "of a request that was refused, nothing counted"


def test_a_fetch_waits_and_is_answered_when_something_comes(broker):
    member = Member(broker).join()
    member.send_fetch(wait_ms=5_000)
    broker.tick(1.0)
    assert not member.client.answers()
    produce(broker, b"a")
    broker.tick()
    assert member.took(member.client.answers()) == [(0, 0, 1)]


def test_acks_come_with_a_fetch_too(broker):
    produce(broker, b"a", b"b")
    member = Member(broker).join()
    assert member.fetch(count=1) == [(0, 0, 1)] and member.fetch((0, 0, [ACCEPT]), count=1) == [(1, 1, 1)]
    assert [row.acknowledge_error_code for topic in member.answer.responses for row in topic.partitions] == [0]
    member.fetch((0, 0, [ACCEPT]))
    assert member.answer.responses[0].partitions[0].acknowledge_error_code == STATE


def test_a_lock_ends_may_be_renewed_and_after_some_deliveries_a_record_is_given_up(broker):
    produce(broker, b"a")
    one, two = Member(broker, "1").join(), Member(broker, "2").join()
    assert one.fetch() == [(0, 0, 1)]
    broker.tick(1.5)
    assert one.acknowledge((0, 0, [RENEW])) == 0
    broker.tick(1.5)
    assert two.fetch() == []
    for attempt in range(2, 6):
        broker.tick(2.1)
        broker.tick(0.1)
        assert one.beat() == two.beat() == 0 and two.fetch() == [(0, 0, attempt)]
    assert one.acknowledge((0, 0, [ACCEPT])) == STATE
    broker.tick(2.1)
    broker.tick(0.1)
    assert two.fetch() == []
    letters, reader = broker.router.open_consumer(
        ConsumerSpec("letters", ("dead-letter/#",), start="earliest"), ANA), Reader()
    letters.attach(reader)
    broker.run()
    assert reader.topics == ["dead-letter/g"] and reader.payloads == [b"a"]


def test_who_is_lost_gives_back_what_it_had_at_once_as_an_attempt_and_who_ends_in_peace_as_none(broker):
    produce(broker, b"a", b"b")
    one, two = Member(broker, "1").join(), Member(broker, "2").join()
    assert one.fetch() == [(0, 1, 1)]
    one.client.channel.handler.eof()
    broker.run()
    assert two.fetch() == [(0, 1, 2)]
    assert two.acknowledge((0, 0, [ACCEPT]), epoch=-1) == 0
    three = Member(broker, "3").join()
    assert three.fetch() == [(1, 1, 2)]


def test_what_is_acked_is_on_the_disk_and_the_rest_comes_again_after_a_crash(broker, tmp_path):
    produce(broker, b"a", b"b", b"c")
    member = Member(broker).join()
    assert member.fetch() == [(0, 2, 1)] and member.acknowledge((1, 1, [ACCEPT])) == 0
    shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-crashed"))
    again = Broker(tmp_path.with_name(f"{tmp_path.name}-crashed"), SETTINGS, streams=STREAMS)
    late = Member(again)
    late.epoch = member.epoch
    assert late.beat() == UNKNOWN                               # it joins again
    late.epoch = 0
    assert late.join().epoch > member.epoch
    assert late.fetch() == [(0, 0, 2), (2, 2, 2)]
    assert options_of(again)["share.auto.offset.reset"] == "earliest"
    again.close()


def options_of(broker, group="g"):
    answer = broker.connect().ask("DescribeConfigs", 4, resources=[
        {"resource_type": 32, "resource_name": group, "configuration_keys": None}])
    return {row.name: row.value for row in answer.results[0].configs}


def test_sessions_are_of_one_connection_and_their_epochs_are_in_order(broker):
    produce(broker, b"a")
    member = Member(broker).join()
    assert member.acknowledge((0, 0, [ACCEPT])) == SESSION_EPOCH         # a session begins with a fetch
    assert member.fetch((0, 0, [ACCEPT])) == INVALID                     # and with nothing to acknowledge
    member.session = 3
    assert member.fetch() == NO_SESSION
    member.session = 0
    assert member.fetch() == [(0, 0, 1)]
    member.session = 7
    assert member.fetch() == SESSION_EPOCH and member.acknowledge((0, 0, [ACCEPT])) == SESSION_EPOCH
    thief = Member(broker)
    thief.places, thief.session = member.places, 1
    assert thief.fetch() == NO_SESSION and thief.acknowledge((0, 0, [ACCEPT])) == NO_SESSION
    member.session = 0
    assert member.fetch() == [(0, 0, 2)]                                 # a new one: the old one is over


@pytest.mark.parametrize("ack", [
    (-1, 0, [ACCEPT]), (3, 1, [ACCEPT]), (0, 0, []), (0, 2, [ACCEPT, ACCEPT]), (0, 0, [5]), (0, 0, [-1])], ids=repr)
def test_acks_that_are_none_are_refused(broker, ack):
    produce(broker, b"a", b"b", b"c")
    member = Member(broker).join()
    member.fetch()
    assert member.acknowledge(ack) == INVALID


def test_a_range_without_end_costs_nothing(broker):
    """hostile.md 89: a number that becomes a loop."""
    produce(broker, b"a")
    member = Member(broker).join()
    assert member.fetch() == [(0, 0, 1)]
    assert member.acknowledge((0, 2**63 - 1, [ACCEPT])) == STATE and member.acknowledge((0, 2**63 - 1, [GAP])) == 0
    assert member.acknowledge((0, 0, [ACCEPT])) == 0


def test_members_of_one_group_get_the_topics_that_they_read(broker):
    produce(broker, b"a")
    produce(broker, b"b", topic="two", partition=1)
    one, two = Member(broker, "1").join(), Member(broker, "2", ("two",)).join()
    assert one.fetch() == [(0, 0, 1)] and two.fetch() == [(0, 0, 1)]
    assert b"a" in one.records() and b"b" in two.records()
    assert one.fetch() == [] and two.fetch() == []


def test_partitions_and_topics_that_are_not_there_are_errors_of_their_own(broker):
    member = Member(broker).join()
    known = member.places[0][0]
    member.places = [(known, 9), (b"x" * 16, 0)]
    member.fetch()
    assert sorted(row.error_code for topic in member.answer.responses for row in topic.partitions) == [3, 100]


def test_kinds_of_groups_stay_apart(broker):
    Member(broker).join()
    client = broker.connect()
    assert client.ask("ConsumerGroupHeartbeat", 1, group_id="g", member_id="c", member_epoch=0,
                      rebalance_timeout_ms=1_000, subscribed_topic_names=["one"],
                      topic_partitions=[]).error_code == NOT_A_SHARE_GROUP
    assert client.ask("JoinGroup", 5, group_id="g", session_timeout_ms=6_000, rebalance_timeout_ms=6_000, member_id="",
                      protocol_type="consumer", protocols=[{"name": "range", "metadata": b""}]).error_code == 23
    client.ask("OffsetCommit", 8, group_id="classic", topics=[
        {"name": "one", "partitions": [{"partition_index": 0, "committed_offset": 0}]}])
    assert Member(broker, group="classic").beat() == NOT_A_SHARE_GROUP
    group, = [row for row in client.ask("ListGroups", 5).groups if row.group_id == "g"]
    assert (group.group_type, group.group_state, group.protocol_type) == ("share", "Stable", "share")
    assert client.ask("DeleteGroups", 2, groups_names=["g"]).results[0].error_code == 68


def test_a_queue_of_the_name_is_left_alone(broker):
    queue = broker.router.queues.declare("g", QueueOptions(), ANA)
    assert Member(broker).beat() == NOT_A_SHARE_GROUP
    assert "one/#" not in queue.consumer.filters


def test_a_group_may_have_any_name(broker):
    options(broker, "team/a b", **{"share.auto.offset.reset": "earliest"})
    produce(broker, b"a")
    member = Member(broker, group="team/a b").join()
    assert member.beat() == 0 and member.fetch() == [(0, 0, 1)]


def test_epochs_fence_and_a_silent_member_is_out(broker):
    produce(broker, b"a")
    one, two = Member(broker, "1").join(), Member(broker, "2").join()
    assert one.fetch() == [(0, 0, 1)]
    assert two.beat() == 0 and two.beat(member_epoch=two.epoch + 7) == FENCED
    assert two.beat(member_epoch=-1) == 0 and two.beat() == UNKNOWN
    broker.tick(11.0)
    broker.tick(0.1)
    assert one.beat() == UNKNOWN
    assert one.fetch() == NO_SESSION
    one.session, one.epoch = 0, 0
    assert one.join().fetch() == [(0, 0, 2)]


def test_offsets_of_a_group_are_told_and_moved_when_nobody_is_in_it(broker):
    produce(broker, b"a", b"b", b"c")
    member = Member(broker).join()
    assert member.fetch() == [(0, 2, 1)] and member.acknowledge((0, 0, [ACCEPT]), (2, 2, [ACCEPT])) == 0

    def place():
        answer = member.client.ask("DescribeShareGroupOffsets", 1, groups=[{"group_id": "g", "topics": None}])
        row = answer.groups[0].topics[0].partitions[0]
        return row.start_offset, row.lag

    def move(offset):
        return member.client.ask("AlterShareGroupOffsets", 0, group_id="g", topics=[
            {"topic_name": "one", "partitions": [{"partition_index": 0, "start_offset": offset}]}]).error_code

    assert place() == (1, 1) and move(0) == 68
    assert member.acknowledge((1, 1, [ACCEPT]), epoch=-1) == 0 and member.beat(member_epoch=-1) == 0
    assert place() == (3, 0) and move(1) == 0 and place() == (1, 2)


def test_offsets_of_a_topic_are_deleted_and_who_comes_next_begins_anew(broker):
    """As if the group had never read it: where its options say, also after a crash."""
    produce(broker, b"a", b"b")
    member = Member(broker).join()
    assert member.fetch() == [(0, 1, 1)] and member.acknowledge((0, 1, [ACCEPT])) == 0

    def delete(*topics):
        return member.client.ask("DeleteShareGroupOffsets", 0, group_id="g",
                                 topics=[{"topic_name": topic} for topic in topics])

    def places():
        answer = member.client.ask("DescribeShareGroupOffsets", 1, groups=[{"group_id": "g", "topics": None}])
        return [row.start_offset for topic in answer.groups[0].topics for row in topic.partitions]

    assert delete("one").error_code == 68, "somebody is in it"
    assert member.acknowledge(epoch=-1) in (0, []) and member.beat(member_epoch=-1) == 0
    assert [row.error_code for row in delete("one", "no-such").responses] == [0, 3] and places() == []
    assert Member(broker, "2").join().fetch() == [(0, 1, 1)]
    assert places() == [0]


def test_members_that_read_the_same_topics_share_what_is_kept_of_partitions_and_that_has_a_bound(tmp_path):
    broker = Broker(tmp_path, msgspec.structs.replace(SETTINGS, share_places_bytes_max=2_000), streams=[
        *STREAMS, StreamSettings("wide", ("wide/#",), 12), StreamSettings("wider", ("wider/#",), 12)])
    members = [Member(broker, str(number), topics=("wide",)) for number in range(3)]
    assert [member.beat() for member in members] == [0, 0, 0]
    found = broker.server.broker.share_groups.find("g")
    assert len({id(member.places) for member in found.members.values()}) == 1
    assert Member(broker, "3", topics=("wide", "wider")).beat() == 81 and len(found.members) == 3
    assert Member(broker, "4", topics=("wide",)).beat() == 0


@pytest.mark.parametrize(("name", "value"), [
    ("share.auto.offset.reset", "now"), ("share.auto.offset.reset", "by_duration:P"), ("consumer.what", "1"),
    ("share.isolation.level", "read_uncommitted"), ("share.record.lock.duration.ms", "1"),
    ("share.record.lock.duration.ms", "9" * 400), ("share.heartbeat.interval.ms", "")])
def test_options_that_are_not_taken(broker, name, value):
    assert options(broker, **{name: value}) == 40


def test_where_a_group_begins(tmp_path):
    """At the end, unless its configuration says otherwise; the records of the harness are of now."""
    broker = Broker(tmp_path, SETTINGS, streams=STREAMS)
    produce(broker, b"a")
    for group, reset, expected in (("g", None, []), ("two-days", "by_duration:P2D", [(0, 0, 1)])):
        if reset is not None:
            assert options(broker, group, **{"share.auto.offset.reset": reset}) == 0
        member = Member(broker, group=group).join()
        assert member.fetch() == expected
    broker.tick(3_600)
    assert options(broker, "lately", **{"share.auto.offset.reset": "by_duration:PT30M"}) == 0
    assert Member(broker, group="lately").join().fetch() == []
    broker.close()


def test_locks_have_a_bound_for_all_members_together(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(share_locks_max=3), streams=STREAMS)
    options(broker, **{"share.auto.offset.reset": "earliest"})
    produce(broker, *[b"%d" % number for number in range(10)])
    one, two = Member(broker, "1").join(), Member(broker, "2").join()
    assert one.fetch() == [(0, 2, 1)] and two.fetch() == []
    assert one.acknowledge((0, 1, [ACCEPT])) == 0 and two.fetch() == [(3, 4, 1)]
    broker.close()


def test_what_may_not_be_read_is_not_shared_and_a_group_is_its_owners(tmp_path):
    """hostile.md 67, 93: a right that is taken away ends what was opened with it."""
    rules = (Rule(allow=(Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE), to=("user:ana",), topics=("one/#",)),)
    broker = Broker(tmp_path, SETTINGS, streams=STREAMS, rules=rules)
    broker.users.passwords = {"ana": b"x", "eve": b"x"}

    def login(member, user):
        member.client.ask("SaslHandshake", 1, mechanism="PLAIN")
        assert member.client.ask("SaslAuthenticate", 2, auth_bytes=b"\0" + user + b"\0x").error_code == 0
        return member

    ana, eve, other = (login(Member(broker, name, group=group), user) for name, group, user in (
        ("a", "g", b"ana"), ("e", "g", b"eve"), ("o", "h", b"eve")))
    assert ana.beat() == 0
    assert eve.beat() == 30 and other.beat() == 29
    eve.places = other.places = ana.places
    assert eve.fetch() == 30
    assert ana.fetch() == []
    broker.close()


def test_a_session_that_ends_while_its_acks_go_to_the_disk_holds_nothing(broker, monkeypatch):
    produce(broker, b"a")
    produce(broker, b"b", topic="two")
    member = Member(broker, topics=("one", "two")).join()
    place, *others = member.places
    member.places = [place]
    assert len(member.fetch()) == 1
    with monkeypatch.context() as patch:
        patch.setattr(broker, "run", lambda: None)              # the disk takes its time
        member.send_fetch(topics=member.request([(0, 0, [ACCEPT])], others))
        assert not member.client.answers()
    other = Member(broker, member.name, member.topics)          # the same member by a new connection
    other.places = [place]
    assert other.fetch() == []
    assert member.took(member.client.answers()) == NO_SESSION
    other.client.channel.handler.eof()
    broker.run()
    assert broker.server.broker.sessions.total == 0


def test_sessions_have_a_bound_also_those_of_nothing(tmp_path):
    """hostile.md 90: what a client can make without end is counted, and given back."""
    broker = Broker(tmp_path, KafkaSettings(session_partitions_max=6), streams=STREAMS)
    member = Member(broker).join()
    for _ in range(3):
        opened = 0
        for number in range(10):
            other = Member(broker, str(number))
            other.client = member.client
            answer = other.fetch()
            assert answer in ([], 133)
            opened += answer == []
        assert 0 < opened <= 6
        member.client.channel.handler.eof()
        broker.run()
        member.client = broker.connect()
    assert not broker.router.consumers["g"].members.all
    broker.close()


def test_members_of_a_group_have_a_bound(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(group_members_max=2), streams=STREAMS)
    members = [Member(broker, str(number)) for number in range(3)]
    assert [member.beat() for member in members] == [0, 0, 81]
    members[2].places = members[0].places
    assert [member.fetch() for member in members] == [[], [], 133]
    broker.close()


def test_batches_of_acks_go_upwards_and_name_no_record_twice(broker):
    """hostile.md 90: as in Kafka; else a small request has millions of answers to give."""
    produce(broker, b"1", b"2", b"3", b"4")
    member = Member(broker).join()
    assert member.fetch() == [(0, 3, 1)]
    assert member.acknowledge((0, 3, [RENEW]), (3, 3, [RENEW])) == INVALID
    assert member.acknowledge((2, 3, [ACCEPT]), (0, 1, [ACCEPT])) == INVALID
    assert member.acknowledge((0, 1, [ACCEPT]), (2, 3, [RELEASE])) == 0
    assert member.fetch() == [(2, 3, 2)]


def test_a_lock_that_is_renewed_over_and_over_costs_its_renewal(broker):
    """hostile.md 90: times of the same moment are one entry, not one more to look through at each."""
    produce(broker, *[b"x"] * 400)
    member = Member(broker).join()
    assert member.fetch(count=400) == [(0, 399, 1)]
    for _ in range(10):
        assert member.acknowledge((0, 399, [RENEW])) == 0
    timetable = broker.router.consumers["g"]._timetable
    assert len(timetable) <= 2 * 400 + 256 + 1
    assert member.acknowledge((0, 399, [ACCEPT])) == 0


def test_what_members_say_of_themselves_has_a_bound(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(group_metadata_bytes_max=1_000), streams=STREAMS)
    assert Member(broker, "m" * 300).beat() == INVALID
    assert Member(broker, "1", topics=["t" * 240, "u" * 240, "v" * 240]).beat() == 0
    assert Member(broker, "2", topics=["w" * 240, "x" * 240]).beat() == 81
    assert Member(broker, "3").beat() == 0
    broker.close()


def test_offsets_of_many_partitions_are_told_in_one_go_over_them(broker):
    """hostile.md 90: not each partition that is not there by looking through all before it."""
    Member(broker).join()
    answer = broker.connect().ask("DescribeShareGroupOffsets", 1, groups=[
        {"group_id": "g", "topics": [{"topic_name": "one", "partitions": list(range(9_000))}]}])
    group, = answer.groups
    partitions = group.topics[0].partitions
    assert [row.start_offset for row in partitions[:2]] == [0, -1] and len(partitions) == 9_000
