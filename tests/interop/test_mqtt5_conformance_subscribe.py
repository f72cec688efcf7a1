"""MQTT 5 clause by clause, seen from outside: SUBSCRIBE, UNSUBSCRIBE, options, identifiers, $share, topic filters."""
from __future__ import annotations

import itertools
import select
import time

import pytest

from tests.support import rawmqtt as m
from tests.support.rawmqtt import packet, subscribe_packet, text

deviates = pytest.mark.mosquitto_deviates


def refused_with(client: m.RawMqtt, data: bytes, *codes: int) -> None:
    client.send(data)
    said = client.expect_close()
    assert said is not None and said.code in codes, said


# --- SUBSCRIBE and UNSUBSCRIBE -------------------------------------------------------------------------------------
def test_suback_has_one_code_per_filter_in_order(broker, unique):
    """[MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1] and the packet id of the SUBSCRIBE [MQTT-3.8.4-2]."""
    base = unique()
    with broker.connect(unique("c")) as client:
        client.send(subscribe_packet(513, [(f"{base}/a", 2), (f"{base}/b", 0), (f"{base}/+/c", 1), (f"{base}/#", 2)]))
        answer = client.expect(m.SUBACK)
        assert (answer.packet_id, answer.codes) == (513, [2, 0, 1, 2])


def test_a_hundred_filters_in_one_packet(broker, unique):
    """[MQTT-3.8.4-5]: as if each came alone."""
    base = unique()
    with broker.connect(unique("c")) as client, broker.connect(unique("pub")) as publisher:
        answer = client.subscribe(*((f"{base}/{number}", number % 3) for number in range(100)))
        assert answer.codes == [number % 3 for number in range(100)]
        publisher.publish_acked(f"{base}/77", b"x", qos=2)
        assert client.message().qos == 2


def test_subscribing_again_replaces_the_subscription(broker, unique, topic):
    """[MQTT-3.8.4-3] Same filter: the options are replaced, messages come once."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        assert subscriber.subscribe((topic, 0)).codes == [0]
        assert subscriber.subscribe((topic, 2)).codes == [2]
        publisher.publish_acked(topic, b"x", qos=2)
        assert subscriber.message().qos == 2
        assert subscriber.subscribe((topic, 1)).codes == [1]
        publisher.publish_acked(topic, b"sentinel", qos=2)
        assert subscriber.messages_until(b"sentinel") == []


def test_messages_are_not_lost_while_a_subscription_is_replaced(broker, unique, topic):
    """[MQTT-3.8.4-4] Replaced at once, no gap: a burst around the second SUBSCRIBE arrives whole."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        for number in range(30):
            publisher.publish(topic, b"%d" % number, qos=1)
            publisher.expect(m.PUBACK)
            if number % 10 == 5:
                subscriber.send(subscribe_packet(subscriber.next_id(), [(topic, 1)]))
        assert [one.payload for one in subscriber.messages(30)] == [b"%d" % number for number in range(30)]


def test_unsuback_tells_whether_there_was_a_subscription(broker, unique, topic):
    """[MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.11.3-1] [MQTT-3.11.3-2] 0x00 and 0x11, in order of the filters."""
    with broker.connect(unique()) as client:
        client.subscribe((topic, 1))
        client.send(m.unsubscribe_packet(99, [topic + "/other", topic, topic]))
        answer = client.expect(m.UNSUBACK)
        assert (answer.packet_id, answer.codes) == (99, [0x11, 0x00, 0x11])


def test_filters_of_unsubscribe_are_compared_as_text(broker, unique):
    """[MQTT-3.10.4-1] `a/#` does not remove `a/b`."""
    base = unique()
    with broker.connect(unique("c")) as client, broker.connect(unique("pub")) as publisher:
        client.subscribe((f"{base}/b", 1))
        assert client.unsubscribe(f"{base}/#", f"{base}/+").codes == [0x11, 0x11]
        publisher.publish_acked(f"{base}/b", b"x")
        assert client.message().payload == b"x"


def test_nothing_new_comes_after_unsubscribe(broker, unique, topic):
    """[MQTT-3.10.4-2] After UNSUBACK no new message is added."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1), (topic + "/sentinel", 1))
        subscriber.unsubscribe(topic)
        publisher.publish_acked(topic, b"x")
        publisher.publish_acked(topic + "/sentinel", b"sentinel")
        assert subscriber.messages_until(b"sentinel") == []


def test_a_delivery_under_way_is_completed_after_unsubscribe(broker, unique, topic):
    """[MQTT-3.10.4-3] A QoS 2 message that was sent already is still released."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 2))
        publisher.publish_acked(topic, b"x", qos=2)
        found = subscriber.message(ack=False)
        subscriber.unsubscribe(topic)
        subscriber.ack(m.PUBREC, found.packet_id)
        subscriber.expect(m.PUBREL, packet_id=found.packet_id)
        subscriber.ack(m.PUBCOMP, found.packet_id)
        subscriber.ping()


def test_subscribe_without_a_filter_is_a_protocol_error(broker, unique):
    """[MQTT-3.8.3-2] 0x82 (or malformed, 0x81)."""
    with broker.connect(unique()) as client:
        refused_with(client, packet(0x82, b"\x00\x01\x00"), 0x82, 0x81)


def test_unsubscribe_without_a_filter_is_a_protocol_error(broker, unique):
    """[MQTT-3.10.3-2] 0x82 (or malformed, 0x81)."""
    with broker.connect(unique()) as client:
        refused_with(client, packet(0xA2, b"\x00\x01\x00"), 0x82, 0x81)


@pytest.mark.parametrize("first", [0x80, 0x83, 0xA0, 0xA1])
def test_subscribe_and_unsubscribe_have_fixed_flags(broker, unique, topic, first):
    """[MQTT-3.8.1-1] [MQTT-3.10.1-1] Bits 3-0 are 0010; anything else is malformed."""
    body = b"\x00\x01\x00" + text(topic) + (b"\x01" if first < 0xA0 else b"")
    with broker.connect(unique()) as client:
        refused_with(client, packet(first, body), 0x81, 0x82)


@pytest.mark.parametrize("options", [0x03, 0x30, 0x40, 0x80], ids=["qos 3", "retain handling 3", "bit 6", "bit 7"])
def test_wrong_subscription_options_are_refused(broker, unique, topic, options):
    """[MQTT-3.8.3-5] §3.8.3.1: QoS 3, retain handling 3 and reserved bits: 0x81 or 0x82."""
    with broker.connect(unique()) as client:
        refused_with(client, subscribe_packet(1, [(topic, options)]), 0x81, 0x82)


def test_packet_id_0_is_refused(broker, unique, topic):
    """[MQTT-2.2.1-3]."""
    with broker.connect(unique()) as client:
        refused_with(client, subscribe_packet(0, [(topic, 0)]), 0x81, 0x82)


@pytest.mark.parametrize("name", ["#/a", "a#", "a/#/b", "a+", "a/+b", "+a/b", "a/b#", ""])
def test_a_wrong_filter_is_refused(broker, unique, name):
    """[MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] DISCONNECT 0x81 and close (§3.9.3: 0x8F is for a correct one)."""
    with broker.connect(unique()) as client:
        refused_with(client, subscribe_packet(1, [(name, 0)]), 0x81)


@pytest.mark.parametrize("name", [b"a\x00", b"\xff/a", b"\xed\xa0\x80"], ids=["NUL", "ff", "surrogate"])
def test_a_filter_that_is_not_utf8_is_refused(broker, unique, name):
    """[MQTT-3.8.3-1] [MQTT-4.7.3-2] [MQTT-1.5.4-1]."""
    with broker.connect(unique()) as client:
        client.send(subscribe_packet(1, [(name, 0)]))
        answer = client.expect(m.SUBACK, m.DISCONNECT)
        assert answer.codes == [0x8F] or answer.code in (0x81, 0x82, 0x8F)


@pytest.mark.meshgate_only("how many levels are taken is for a server to say")
def test_a_good_filter_beside_a_refused_one(broker, unique, topic):
    """[MQTT-3.8.4-5] More levels than are taken is SUBACK 0x8F, and the good one holds."""
    with broker.connect(unique()) as client, broker.connect(unique("pub")) as publisher:
        client.send(subscribe_packet(1, [("/".join("a" * 129), 1), (topic, 1)]))
        assert client.expect(m.SUBACK).codes == [0x8F, 1]
        publisher.publish_acked(topic, b"x")
        assert client.message().payload == b"x"


# --- topic filters -------------------------------------------------------------------------------------------------
MATCHES = [
    ("sport/tennis/player1/#", ["sport/tennis/player1", "sport/tennis/player1/ranking",
                                "sport/tennis/player1/score/wimbledon"], ["sport/tennis/player2"]),
    ("sport/+", ["sport/a", "sport/"], ["sport", "sport/a/b"]),
    ("+/+", ["/finance", "a/b"], ["finance"]),
    ("/+", ["/finance"], ["a/finance"]),
    ("sport/+/player1", ["sport/tennis/player1"], ["sport/tennis/x/player1", "sport/player1"]),
    ("+/tennis/#", ["sport/tennis", "sport/tennis/a/b"], ["sport/golf"]),
    ("Sport/a", ["Sport/a"], ["sport/a", "Sport/a/", "/Sport/a", "Sport/A"]),
    ("a//b", ["a//b"], ["a/b", "a/x/b"]),
    ("a/+/b", ["a//b", "a/x/b"], ["a/b"]),
    ("Å/é", ["Å/é"], ["Å/e\u0301"]),
]


@pytest.mark.parametrize("pattern, matching, other", MATCHES, ids=[row[0] for row in MATCHES])
def test_filters_match_as_the_specification_says(broker, unique, pattern, matching, other):
    """[MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4] §4.7: examples of the text, below a prefix of our own."""
    base = unique()
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((f"{base}/{pattern}", 1), (f"{base}-sentinel", 1))
        for name in matching + other:
            publisher.publish_acked(f"{base}/{name}", b"x")
        publisher.publish_acked(f"{base}-sentinel", b"sentinel")
        found = [one.topic.removeprefix(base + "/") for one in subscriber.messages_until(b"sentinel")]
        assert found == matching


def test_a_leading_wildcard_does_not_match_dollar_topics(broker, unique, topic):
    """[MQTT-4.7.2-1] `#` and `+/…` see no topic that begins with $; `$SYS/#` does."""
    with broker.connect(unique("all")) as everything, broker.connect(unique("plus")) as plus:
        everything.subscribe(("#", 0))
        plus.subscribe(("+/broker/version", 0))
        everything.ping()
        plus.ping()
        everything.publish(topic, b"sentinel")
        everything.expect(m.PUBLISH, where=lambda found: found.payload == b"sentinel")
        assert not [found for found in everything.pending + plus.pending if found.topic.startswith("$")]


def test_sys_topics_can_be_subscribed(broker, unique):
    """§4.7.2: `$SYS/` is widely used for information about the server; a retained value comes at once."""
    with broker.connect(unique()) as client:
        client.subscribe(("$SYS/#", 0))
        assert client.message().topic.startswith("$SYS/")


# --- options -------------------------------------------------------------------------------------------------------
def test_no_local(broker, unique, topic):
    """[MQTT-3.8.3-3] Own messages do not come back, those of others do."""
    with broker.connect(unique("own")) as own, broker.connect(unique("other")) as other:
        own.subscribe((topic, 1 | m.NO_LOCAL))
        own.publish_acked(topic, b"own")
        own.publish(topic, b"own 0")
        other.publish_acked(topic, b"other")
        assert [one.payload for one in [own.message()]] == [b"other"]


def test_no_local_for_qos_0_and_over_a_session(broker, unique, topic):
    """[MQTT-3.8.3-3] by client id: also after a reconnect of the same client."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("own"), values=keep) as own:
        own.subscribe((topic, 0 | m.NO_LOCAL))
        own.disconnect()
    with broker.connect(unique("own"), clean=False, values=keep) as own, broker.connect(unique("other")) as other:
        own.publish(topic, b"own")
        own.ping()
        other.publish(topic, b"other")
        assert own.message().payload == b"other"


@deviates("takes it")
def test_no_local_on_a_shared_subscription_is_a_protocol_error(broker, unique, topic):
    """[MQTT-3.8.3-4] DISCONNECT 0x82."""
    with broker.connect(unique()) as client:
        refused_with(client, subscribe_packet(1, [(f"$share/g/{topic}", 1 | m.NO_LOCAL)]), 0x82)


# --- subscription identifiers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [1, 127, 128, 16384, 268_435_455])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_subscription_identifier_comes_with_its_messages(broker, unique, topic, number, qos):
    """[MQTT-3.3.4-3] also for retained messages and with both lanes."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"kept", retain=True)
        subscriber.subscribe((topic, qos), values=[(m.SUBSCRIPTION_ID, number)])
        publisher.publish_acked(topic, b"live")
        found = subscriber.messages(2)
        assert [one.payload for one in found] == [b"kept", b"live"]
        assert [one.all(m.SUBSCRIPTION_ID) for one in found] == [[number], [number]]
        publisher.publish_acked(topic, b"", retain=True)


def test_overlapping_subscriptions_deliver_all_identifiers(broker, unique, topic):
    """[MQTT-3.3.4-2…5] [MQTT-3.8.4-…]: one copy with every id, or one copy for each; the highest QoS is reached."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1), values=[(m.SUBSCRIPTION_ID, 11)])
        subscriber.subscribe((topic + "/#", 2), values=[(m.SUBSCRIPTION_ID, 22)])
        subscriber.subscribe((topic.replace("/a", "/+"), 0), values=[(m.SUBSCRIPTION_ID, 33)])
        subscriber.subscribe((topic + "-sentinel", 2))
        publisher.publish_acked(topic, b"x", qos=2)
        publisher.publish_acked(topic + "-sentinel", b"sentinel", qos=2)
        found = subscriber.messages_until(b"sentinel")
        assert found and max(one.qos for one in found) == 2
        identifiers = sorted(number for one in found for number in one.all(m.SUBSCRIPTION_ID))
        if len(found) == 1:
            assert identifiers == [11, 22, 33]
        else:
            assert identifiers == [11, 22, 33] and all(len(one.all(m.SUBSCRIPTION_ID)) == 1 for one in found)


def test_overlapping_subscriptions_without_identifiers(broker, unique, topic):
    """§3.3.4: no copy carries an identifier; one copy at the highest QoS, or one for each."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 0), (topic + "/#", 1), (topic + "-sentinel", 1))
        publisher.publish_acked(topic, b"x", qos=2)
        publisher.publish_acked(topic + "-sentinel", b"sentinel")
        found = subscriber.messages_until(b"sentinel")
        assert 1 <= len(found) <= 2 and max(one.qos for one in found) == 1
        assert not any(one.all(m.SUBSCRIPTION_ID) for one in found)


def test_a_new_subscribe_replaces_the_identifier(broker, unique, topic):
    """§3.8.2.1.2: a SUBSCRIBE without the property removes it."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        for values, wanted in (([(m.SUBSCRIPTION_ID, 1)], [1]), ([(m.SUBSCRIPTION_ID, 2)], [2]), ([], [])):
            subscriber.subscribe((topic, 1), values=values)
            publisher.publish_acked(topic, b"x")
            assert subscriber.message().all(m.SUBSCRIPTION_ID) == wanted


def test_identifiers_are_part_of_the_session(broker, unique, topic):
    """§4.1: the session state includes subscriptions with their identifiers and options."""
    with broker.connect(unique("sub"), values=[(m.SESSION_EXPIRY, 60)]) as subscriber:
        subscriber.subscribe((topic, 1 | m.RETAIN_AS_PUBLISHED), values=[(m.SUBSCRIPTION_ID, 7)])
        subscriber.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"x", retain=True)
        with broker.connect(unique("sub"), clean=False) as subscriber:
            found = subscriber.message()
            assert (found.all(m.SUBSCRIPTION_ID), found.retain) == ([7], True)
        publisher.publish_acked(topic, b"", retain=True)


@pytest.mark.parametrize("values", [
    pytest.param([(m.SUBSCRIPTION_ID, 0)], id="0"),
    pytest.param([(m.SUBSCRIPTION_ID, 1), (m.SUBSCRIPTION_ID, 2)], id="twice",
                 marks=deviates("closes without DISCONNECT")),
    pytest.param([(m.SUBSCRIPTION_ID, b"\xff\xff\xff\xff\x01")], id="five bytes"),
    pytest.param([(m.TOPIC_ALIAS, 1)], id="foreign property"),
])
def test_wrong_subscribe_properties_are_refused(broker, unique, topic, values):
    """§3.8.2.1.2: 0 and repeats are protocol errors."""
    with broker.connect(unique()) as client:
        refused_with(client, subscribe_packet(1, [(topic, 0)], values=values), 0x81, 0x82)


# --- shared subscriptions ------------------------------------------------------------------------------------------
def collect(members: list[m.RawMqtt], count: int, deadline_s: float = 60) -> list[list[bytes]]:
    """Read PUBLISH packets from all members until there are count in all; every one is acked."""
    found: list[list[bytes]] = [[] for _ in members]
    end = time.monotonic() + deadline_s
    while sum(map(len, found)) < count:
        left = end - time.monotonic()
        assert left > 0, f"only {[len(one) for one in found]} of {count}"
        for index, member in enumerate(members):
            while member.pending or member._buffer or select.select([member.socket], [], [], 0.01)[0]:
                try:
                    found[index].append(member.message(deadline_s=0.2).payload)
                except m.NotReceived:
                    break
    return found


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_share_group_gets_every_message_once(broker, unique, topic, qos):
    """[MQTT-4.8.2-4] [MQTT-4.8.2-5] One member gets each message; beside it a plain subscriber gets all."""
    names = [unique(f"m{number}") for number in range(3)]
    with broker.connect(names[0]) as one, broker.connect(names[1]) as two, broker.connect(names[2]) as three, \
            broker.connect(unique("plain")) as plain, broker.connect(unique("pub")) as publisher:
        members = [one, two, three]
        for member in members:
            assert member.subscribe((f"$share/{unique('g')}/{topic}", qos)).codes == [qos]
        plain.subscribe((topic, qos))
        for number in range(60):
            if qos:
                publisher.publish_acked(topic, b"%d" % number, qos=qos)
            else:
                publisher.publish(topic, b"%d" % number)
        found = collect(members, 60)
        assert sorted(itertools.chain(*found)) == sorted(b"%d" % number for number in range(60))
        assert all(found), f"one member got nothing: {[len(part) for part in found]}"
        assert len(plain.messages(60)) == 60


def test_two_share_groups_get_every_message_each(broker, unique, topic):
    """[MQTT-4.8.2-4] The group is ShareName and filter."""
    with broker.connect(unique("a")) as one, broker.connect(unique("b")) as two, \
            broker.connect(unique("pub")) as publisher:
        one.subscribe((f"$share/{unique('g1')}/{topic}", 1))
        two.subscribe((f"$share/{unique('g2')}/{topic}", 1))
        for number in range(10):
            publisher.publish_acked(topic, b"%d" % number)
        for member in (one, two):
            assert [found.payload for found in member.messages(10)] == [b"%d" % number for number in range(10)]


def test_members_of_a_group_keep_their_own_qos(broker, unique, topic):
    """[MQTT-4.8.2-3] Each with the QoS that was granted to it."""
    with broker.connect(unique("a")) as one, broker.connect(unique("b")) as two, \
            broker.connect(unique("pub")) as publisher:
        group = f"$share/{unique('g')}/{topic}"
        one.subscribe((group, 1))
        two.subscribe((group, 2))
        for number in range(20):
            publisher.publish_acked(topic, b"%d" % number, qos=2)
        got = {1: 0, 2: 0}
        while sum(got.values()) < 20:
            for member, granted in ((one, 1), (two, 2)):
                try:
                    assert member.message(deadline_s=0.3).qos == granted
                    got[granted] += 1
                except m.NotReceived:
                    pass
        assert all(got.values())


@deviates("sends them")
def test_a_share_group_gets_no_retained_messages(broker, unique, topic):
    """§4.8.2: retained messages are not sent to a shared subscription when it is made."""
    with broker.connect(unique("pub")) as publisher, broker.connect(unique("sub")) as subscriber:
        publisher.publish_acked(topic, b"kept", retain=True)
        subscriber.subscribe((f"$share/{unique('g')}/{topic}", 1))
        publisher.publish_acked(topic, b"sentinel")
        assert subscriber.messages_until(b"sentinel") == []
        publisher.publish_acked(topic, b"", retain=True)


@deviates("keeps them for the member that left, or drops them")
def test_unacked_messages_of_a_leaving_member_go_to_another(broker, unique, topic):
    """[MQTT-4.8.2-6] A member whose session ends before it acked: another member gets the message."""
    group = f"$share/{unique('g')}/{topic}"
    with broker.connect(unique("stays")) as stays, broker.connect(unique("pub")) as publisher:
        leaves = broker.connect(unique("leaves"))
        leaves.subscribe((group, 1))
        publisher.publish_acked(topic, b"first")
        assert leaves.message(ack=False).payload == b"first"
        stays.subscribe((group, 1))
        leaves.drop()
        found = stays.message()
        assert found.payload == b"first"


def test_leaving_a_group_by_unsubscribe(broker, unique, topic):
    """[MQTT-3.10.4-2] for a shared filter: the rest of the group gets everything."""
    group = f"$share/{unique('g')}/{topic}"
    with broker.connect(unique("a")) as one, broker.connect(unique("b")) as two, \
            broker.connect(unique("pub")) as publisher:
        one.subscribe((group, 1))
        two.subscribe((group, 1))
        assert one.unsubscribe(group).codes == [0]
        for number in range(6):
            publisher.publish_acked(topic, b"%d" % number)
        assert [found.payload for found in two.messages(6)] == [b"%d" % number for number in range(6)]


@deviates("keeps a queue for each member")
def test_an_offline_member_does_not_hold_messages_back(broker, unique, topic):
    """§4.8.2: while one member of the group is online it is served; the group as a whole loses nothing."""
    group = f"$share/{unique('g')}/{topic}"
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("off"), values=keep) as off:
        off.subscribe((group, 1))
        off.disconnect()
    with broker.connect(unique("on"), values=keep) as online, broker.connect(unique("pub")) as publisher:
        online.subscribe((group, 1))
        for number in range(8):
            publisher.publish_acked(topic, b"%d" % number)
        assert sorted(found.payload for found in online.messages(8)) == sorted(b"%d" % number for number in range(8))


def test_a_share_group_of_offline_members_keeps_its_messages(broker, unique, topic):
    """§4.8.2, [MQTT-3.1.2-23]: all members have persistent sessions and are away: nothing of QoS 1 is lost."""
    group = f"$share/{unique('g')}/{topic}"
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("sub"), values=keep) as member:
        member.subscribe((group, 1))
        member.disconnect()
    with broker.connect(unique("pub")) as publisher:
        for number in range(5):
            publisher.publish_acked(topic, b"%d" % number)
    with broker.connect(unique("sub"), clean=False, values=keep) as member:
        assert [found.payload for found in member.messages(5)] == [b"%d" % number for number in range(5)]


def test_a_negative_ack_of_a_member_is_final(broker, unique, topic):
    """§4.8.2: PUBACK with an error code: the message is discarded, not given to another member."""
    group = f"$share/{unique('g')}/{topic}"
    with broker.connect(unique("a")) as one, broker.connect(unique("b")) as two, \
            broker.connect(unique("pub")) as publisher:
        one.subscribe((group, 1))
        publisher.publish_acked(topic, b"refused")
        one.ack(m.PUBACK, one.message(ack=False).packet_id, 0x80)
        one.ping()
        two.subscribe((group, 1))
        one.unsubscribe(group)
        publisher.publish_acked(topic, b"sentinel")
        assert two.messages_until(b"sentinel") == []


@pytest.mark.parametrize("name", [
    "$share/g+/x", "$share/g#/x",
    *(pytest.param(name, marks=deviates("takes it")) for name in ("$share//x", "$share/+/x", "$share/g/", "$share/g",
                                                                  "$share/"))])
def test_a_wrong_share_filter_is_refused(broker, unique, name):
    """[MQTT-4.8.2-1] [MQTT-4.8.2-2] Share name at least one character, without / + #; a filter follows it."""
    with broker.connect(unique()) as client:
        client.send(subscribe_packet(1, [(name, 0)]))
        answer = client.expect(m.SUBACK, m.DISCONNECT)
        assert answer.codes == [0x8F] or answer.code in (0x81, 0x82, 0x8F)


def test_a_share_filter_with_wildcards(broker, unique):
    """§4.8.2: the filter after the share name follows the ordinary grammar."""
    base = unique()
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((f"$share/{unique('g')}/{base}/+/x/#", 1))
        publisher.publish_acked(f"{base}/a/x", b"1")
        publisher.publish_acked(f"{base}/a/y", b"no")
        publisher.publish_acked(f"{base}/b/x/c/d", b"2")
        assert [found.payload for found in subscriber.messages(2)] == [b"1", b"2"]


# --- request and response ------------------------------------------------------------------------------------------
def test_request_and_response(broker, unique):
    """§4.10: a request with response topic and correlation data is answered by a second client."""
    with broker.connect(unique("asks")) as asks, broker.connect(unique("answers")) as answers:
        answers.subscribe((unique("service"), 1))
        asks.subscribe((unique("reply"), 1))
        asks.publish_acked(unique("service"), b"?", values=[(m.RESPONSE_TOPIC, unique("reply")),
                                                            (m.CORRELATION, b"\x00\xff")])
        request = answers.message()
        answers.publish_acked(str(request.get(m.RESPONSE_TOPIC)), b"!",
                              values=[(m.CORRELATION, request.get(m.CORRELATION))])
        reply = asks.message()
        assert (reply.payload, reply.get(m.CORRELATION)) == (b"!", b"\x00\xff")
