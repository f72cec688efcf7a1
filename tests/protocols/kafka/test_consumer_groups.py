"""Consumer groups (KIP-848): a partition is never with two members, epochs fence, static members keep their part, a
crash changes nothing; assignors and patterns.
"""
from __future__ import annotations

import random
import time

import pytest

from protocols.kafka.groups.assignors import range_, uniform
from protocols.kafka.groups.patterns import BadPattern, compile_pattern
from protocols.kafka.settings import KafkaSettings
from routing.settings import StreamSettings
from tests.protocols.kafka.harness import Broker

UNKNOWN, FENCED_INSTANCE, FENCED, UNRELEASED, STALE, INVALID, TOO_LARGE = 25, 82, 110, 111, 113, 42, 81
STREAMS = (StreamSettings("six", ("six/#",), partitions=6), StreamSettings("two", ("two/#",), partitions=2))
SETTINGS = KafkaSettings(consumer_session_timeout_ms=10_000)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path, SETTINGS, streams=STREAMS)
    yield broker
    broker.close()


class Member:
    """A consumer as it should be: it says what it has, and gives up what it is told to, at once or when asked."""

    def __init__(self, broker, name, topics=("six",), slow=False, version=1, **options):
        self.client, self.name, self.topics, self.slow = broker.connect(), name, topics, slow
        self.version, self.options = version, options
        self.epoch, self.owned, self.wanted = 0, set(), set()

    def beat(self, **values):
        """One heartbeat; returns the error code."""
        joins = {"rebalance_timeout_ms": 5_000, "subscribed_topic_names": self.topics} if self.epoch == 0 else {
            "subscribed_topic_names": None}
        owned = {}
        for topic_id, index in self.owned:
            owned.setdefault(topic_id, []).append(index)
        request = {"group_id": "g", "member_id": self.name, "member_epoch": self.epoch, **joins, **self.options,
                   "topic_partitions": [{"topic_id": id, "partitions": some} for id, some in owned.items()], **values}
        answer = self.client.ask("ConsumerGroupHeartbeat", self.version, **request)
        if answer.error_code:
            return answer.error_code
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.wanted = {(topic.topic_id, index) for topic in answer.assignment.topic_partitions
                           for index in topic.partitions}
        if not self.slow:
            self.owned = set(self.wanted)
        return 0


def settle(*members, rounds=8):
    """Everybody sends heartbeats; nothing is ever with two of them. Returns how many partitions each has."""
    for _ in range(rounds):
        for member in members:
            assert member.beat() == 0
            held = [place for each in members for place in each.owned]
            assert len(held) == len(set(held)), "a partition is with two members"
    return [len(member.owned) for member in members]


def describe(broker):
    return broker.connect().ask("ConsumerGroupDescribe", 1, group_ids=["g"]).groups[0]


def test_members_join_share_and_leave(broker):
    one, two, three = (Member(broker, name) for name in "abc")
    assert settle(one) == [6] and settle(one, two) == [3, 3] and settle(one, two, three) == [2, 2, 2]
    group = describe(broker)
    assert (group.group_state, len(group.members), group.assignor_name) == ("Stable", 3, "uniform")
    assert broker.connect().ask("ListGroups", 5).groups[0].group_type == "consumer"
    assert two.beat(member_epoch=-1) == 0 and settle(one, three) == [3, 3]
    assert two.beat(member_epoch=3) == UNKNOWN


def test_a_partition_moves_only_when_it_was_given_up(broker):
    one, two = Member(broker, "a", slow=True), Member(broker, "b")
    one.beat()
    one.owned = set(one.wanted)
    two.beat()
    one.beat()
    assert len(one.wanted) == 3 and settle(one, two) == [6, 0]      # it still reads them
    one.owned = set(one.wanted)
    assert settle(one, two) == [3, 3]


def test_who_does_not_give_up_in_time_is_out(broker):
    one, two = Member(broker, "a", slow=True), Member(broker, "b")
    one.beat()
    one.owned = set(one.wanted)
    two.beat()
    for _ in range(3):
        one.beat()
        two.beat()
        broker.tick(2)
    assert one.beat() == UNKNOWN
    assert settle(two) == [6]


def test_a_silent_member_is_out_after_its_session(broker):
    one, two = Member(broker, "a"), Member(broker, "b")
    assert settle(one, two) == [3, 3]
    for _ in range(3):
        broker.tick(4)
        two.beat()
    assert settle(two) == [6] and one.beat() == UNKNOWN


def test_another_epoch_is_fenced_and_a_lost_answer_is_not(broker):
    one, two, three = (Member(broker, name) for name in "abc")
    settle(one)
    settle(one, two)
    before, had = one.epoch, set(one.owned)
    settle(one, two, three)
    assert one.beat(member_epoch=one.epoch + 1) == FENCED
    assert one.beat(member_epoch=before - 1) == FENCED
    assert one.beat(member_epoch=before) == 0                       # it has not heard of the newer one
    one.owned = had
    assert one.beat(member_epoch=before) == FENCED                  # nor has it what it had then


def test_a_static_member_comes_back_to_what_it_had(broker):
    one, two = Member(broker, "a", instance_id="i"), Member(broker, "b", instance_id="j")
    assert settle(one, two) == [3, 3]
    before = set(one.owned)
    again = Member(broker, "c", instance_id="i")
    assert again.beat() == UNRELEASED
    assert one.beat(member_epoch=-2) == 0
    assert settle(again, two) == [3, 3] and again.owned == before
    assert one.beat(member_epoch=again.epoch) == FENCED_INSTANCE


def test_only_members_of_the_epoch_commit(broker):
    one = Member(broker, "a")
    settle(one)

    def commit(member_id, epoch):
        answer = one.client.ask("OffsetCommit", 9, group_id="g", member_id=member_id,
                                generation_id_or_member_epoch=epoch,
                                topics=[{"name": "six", "partitions": [{"partition_index": 0, "committed_offset": 3}]}])
        return answer.topics[0].partitions[0].error_code

    assert [commit("a", one.epoch), commit("a", one.epoch - 1), commit("x", 1), commit("", -1)] == [
        0, STALE, UNKNOWN, UNKNOWN]
    fetched = one.client.ask("OffsetFetch", 9, groups=[
        {"group_id": "g", "member_id": "a", "member_epoch": one.epoch + 5, "topics": None}])
    assert fetched.groups[0].error_code == STALE
    joined = one.client.ask("JoinGroup", 5, group_id="g", session_timeout_ms=6_000, rebalance_timeout_ms=6_000,
                            protocol_type="consumer", protocols=[{"name": "range", "metadata": b""}])
    assert joined.error_code == 23                                  # the group is of the other kind


def test_members_go_on_after_a_crash_as_if_nothing_had_been(tmp_path):
    broker = Broker(tmp_path, SETTINGS, streams=STREAMS)
    one, two = Member(broker, "a"), Member(broker, "b")
    assert settle(one, two) == [3, 3]
    broker.close()
    again = Broker(tmp_path, SETTINGS, streams=STREAMS)
    epochs = one.epoch, two.epoch
    for member in (one, two):
        member.client = again.connect()
    assert settle(one, two) == [3, 3] and (one.epoch, two.epoch) == epochs
    again.close()


def test_topics_that_come_grow_and_go_are_assigned_and_taken_away(broker):
    one, two = Member(broker, "a", ["six", "late"]), Member(broker, "b", ["six", "late"])
    assert settle(one, two) == [3, 3]
    one.client.ask("CreateTopics", 4, topics=[{"name": "late", "num_partitions": 4, "replication_factor": 1}])
    assert settle(one, two) == [5, 5]
    one.client.ask("CreatePartitions", 1, topics=[{"name": "late", "count": 6, "assignments": None}])
    assert settle(one, two) == [6, 6]
    one.client.ask("DeleteTopics", 4, topic_names=["late"])
    assert settle(one, two) == [3, 3]


def test_a_pattern_follows_the_topics(broker):
    one = Member(broker, "a", None, subscribed_topic_regex="(six|l.*)")
    assert settle(one) == [6]
    one.options = {}
    one.client.ask("CreateTopics", 4, topics=[{"name": "late", "num_partitions": 2, "replication_factor": 1}])
    assert settle(one) == [8]


@pytest.mark.parametrize("values", [
    {"member_id": ""}, {"member_epoch": -3}, {"member_epoch": -2}, {"instance_id": ""}, {"group_id": ""},
    {"rebalance_timeout_ms": -1}, {"topic_partitions": None}, {"subscribed_topic_names": None},
    {"topic_partitions": [{"topic_id": b"x" * 16, "partitions": [0]}]},
], ids=str)
def test_what_is_no_heartbeat_is_refused(broker, values):
    assert Member(broker, "a").beat(**values) in (INVALID, 24)


def test_an_unknown_assignor_or_pattern_is_refused_with_its_own_error(broker):
    assert Member(broker, "a").beat(server_assignor="best") == 112
    assert Member(broker, "a", None).beat(subscribed_topic_regex="(a+)+") == 128


def test_random_joins_leaves_and_crashes_never_give_a_partition_to_two(broker):
    rng, members, number = random.Random(848), [], 0
    for _ in range(60):
        act = rng.random()
        if act < 0.4 or not members:
            number += 1
            members.append(Member(broker, f"m{number}", rng.choice((["six"], ["two"], ["six", "two"])),
                                  slow=rng.random() < 0.3))
        elif act < 0.6:
            members.pop(rng.randrange(len(members))).beat(member_epoch=-1)
        for member in rng.choices(members, k=4) if members else ():
            assert member.beat() == 0
            if member.slow and rng.random() < 0.5:
                member.owned = set(member.wanted)
            held = [place for each in members for place in each.owned]
            assert len(held) == len(set(held)), "a partition is with two members"
    for member in members:
        member.slow = False
    settle(*members)
    read = {topic for member in members for topic in member.topics}
    assert sum(len(member.owned) for member in members) == 6 * ("six" in read) + 2 * ("two" in read)


@pytest.mark.parametrize("seed", range(20))
def test_assignors_give_every_partition_to_one_who_reads_it_evenly(seed):
    rng = random.Random(seed)
    counts = {bytes([number]) * 16: rng.randrange(1, 20) for number in range(rng.randrange(1, 5))}
    topics = list(counts)
    alike = rng.random() < 0.5
    subscriptions = {f"m{number}": frozenset(topics if alike else rng.sample(topics, rng.randrange(1, len(topics) + 1)))
                     for number in range(rng.randrange(1, 8))}
    read = set().union(*subscriptions.values())
    everything = {(topic, index) for topic in read for index in range(counts[topic])}
    for assign in (uniform, range_):
        before = assign(subscriptions, counts, {})
        gone = rng.choice(list(subscriptions))
        left = {member: some for member, some in subscriptions.items() if member != gone} or subscriptions
        after = assign(left, counts, before)
        for found, wanted in ((before, subscriptions), (after, left)):
            places = [place for some in found.values() for place in some]
            some_read = {place for place in everything if place[0] in set().union(*wanted.values())}
            assert len(places) == len(set(places)) and set(places) == some_read
            assert all(place[0] in wanted[member] for member, some in found.items() for place in some)
        sizes = [len(some) for some in before.values()]
        if assign is uniform and alike:
            assert max(sizes) - min(sizes) <= 1
            kept = sum(len(before[member] & after[member]) for member in left)
            assert kept == sum(len(before[member]) for member in left)      # who stays loses nothing


@pytest.mark.measured
def test_many_partitions_are_levelled_in_a_small_part_of_a_turn():
    """One who has all joins others who read more than that, beside one who can give nothing away: once 3.4 s."""
    shared, alone, *own = (bytes([number]) * 16 for number in range(32))
    counts = {shared: 1_900, alone: 2_000, **dict.fromkeys(own, 1)}
    subscriptions = {"all": frozenset([shared]), "alone": frozenset([alone])}
    before = uniform(subscriptions, counts, {})
    subscriptions.update((f"m{number}", frozenset([shared, topic])) for number, topic in enumerate(own))
    began_s = time.thread_time()
    after = uniform(subscriptions, counts, before)
    assert time.thread_time() - began_s < 0.05
    sizes = sorted(map(len, after.values()))
    assert sizes[-1] == 2_000 and sizes[-2] - sizes[0] <= 1 and sum(sizes) == 3_930
    assert after["all"] <= before["all"]


def test_a_large_group_whose_members_read_different_topics_is_even_and_takes_in_who_joins():
    one, two = b"1" * 16, b"2" * 16
    counts = {one: 100, two: 100}
    subscriptions = {f"m{number}": frozenset([(one, two)[number % 2]]) for number in range(100)}
    before = uniform(subscriptions, counts, {})
    assert {len(some) for some in before.values()} == {2}
    subscriptions["joined"] = frozenset([one])
    after = uniform(subscriptions, counts, before)
    assert after["joined"] and sum(map(len, after.values())) == 200
    assert all(place[0] in subscriptions[member] for member, some in after.items() for place in some)


@pytest.mark.parametrize("text", ["(a+)+", "a{9}", "a*b*c*d*", "a??", "(a|a)(a|a)(a|a)(a|a)(a|a)b", "a?a?a?a?a?b", "(",
                                  "[", "(?=a)", "\\1", "a" * 2_000, "*a", "(?P<a>x)"])
def test_patterns_whose_cost_has_no_bound_are_not_taken(text):
    with pytest.raises(BadPattern):
        compile_pattern(text)


@pytest.mark.parametrize(("text", "yes", "no"), [
    ("orders.*", "orders.eu", "border"), (r"orders\.(eu|us)", "orders.us", "ordersxus"), ("[a-c]+", "abc", "abd"),
    ("^a|b$", "b", "ab"), ("a.?c", "ac", "abbc"), (r"\w+-\d+", "x-12", "x-y"), ("[^.]*", "abc", "a.b"),
])
def test_patterns_that_are(text, yes, no):
    pattern = compile_pattern(text)
    assert pattern.fullmatch(yes) and not pattern.fullmatch(no)


def test_a_member_that_is_slow_to_give_up_has_one_timer_however_often_it_beats(broker):
    one, two = Member(broker, "a", slow=True), Member(broker, "b")
    one.beat()
    one.owned = set(one.wanted)
    two.beat()
    one.beat()
    before = len(broker.server.broker.timers)
    for _ in range(50):
        assert one.beat() == 0
    assert len(broker.server.broker.timers) == before


def test_alternatives_that_cost_the_square_of_a_name_are_few():
    compile_pattern("|".join(["a-.*-.*"] * 4 + ["b-.*"] * 50))
    with pytest.raises(BadPattern, match="alternatives"):
        compile_pattern("|".join([".*.*x"] * 5))


def test_a_large_group_is_stored_some_times_a_second_and_nobody_hears_of_a_change_before(broker):
    """The whole group is one value: with each of 1,000 joins that was 1,000 times the group."""
    puts = []
    state = broker.router.state
    put = state.put
    state.put = lambda key, value: (puts.append(key), put(key, value))[1]
    assert not any(Member(broker, f"m{number}").beat() for number in range(49))
    before = len(puts)
    clients = [broker.connect() for _ in range(150)]
    for number, client in enumerate(clients):
        client.send("ConsumerGroupHeartbeat", 1, group_id="g", member_id=f"n{number}", member_epoch=0,
                    rebalance_timeout_ms=5_000, subscribed_topic_names=["six"], topic_partitions=[])
    assert not any(client.answers() for client in clients[5:])
    broker.tick(0.2)
    answers = [client.answers()[0] for client in clients[5:]]
    assert {answer.error_code for answer in answers} == {0} and len(puts) - before < 5
    state.put = put


def test_what_members_say_of_themselves_is_bounded(broker):
    assert Member(broker, "a" * 256).beat() == INVALID
    assert Member(broker, "a", rack_id="r" * 256).beat() == INVALID
    assert Member(broker, "a" * 255).beat() == 0
    names = [f"{number}-{'x' * 200}" for number in range(3_000)]
    assert Member(broker, "b", topics=names).beat() == 0
    assert Member(broker, "c", topics=names).beat() == TOO_LARGE
    changed = Member(broker, "d")
    assert changed.beat() == 0 and changed.beat(subscribed_topic_names=names) == TOO_LARGE and changed.beat() == 0
