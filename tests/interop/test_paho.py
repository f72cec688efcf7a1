"""paho-mqtt, the Eclipse client for Python, against the broker: MQTT 3.1.1 and 5, over TCP, TLS and WebSocket."""
from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE_S = 60


class Paho:
    """A connected paho client with its network thread; messages wait in a queue."""

    def __init__(self, broker, client_id: str, *, version: int = 5, transport: str = "tcp", clean: bool = True,
                 expiry_s: int = 0, will: tuple[str, bytes, int, bool] | None = None) -> None:
        self.version = version
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.subscribed: queue.Queue[list[paho.ReasonCode]] = queue.Queue()
        self.connected = threading.Event()
        self.disconnected = threading.Event()
        self.flags: paho.ConnectFlags | None = None
        websocket = transport in ("ws", "wss")
        options = {} if version == 5 else {"clean_session": clean}
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=version,
                                  transport="websockets" if websocket else "tcp", reconnect_on_failure=False, **options)
        self.client.on_connect = self._on_connect
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_subscribe = lambda _client, _data, _mid, codes, _values: self.subscribed.put(codes)
        self.client.on_disconnect = lambda *_: self.disconnected.set()
        if transport in ("tls", "wss"):
            self.client.tls_set(str(broker.certificates.ca), cert_reqs=ssl.CERT_REQUIRED)
        if will is not None:
            self.client.will_set(*will)
        address = broker.mqtts if transport == "tls" else broker.mqtt
        if websocket:
            parts = urlsplit(broker.wss if transport == "wss" else broker.ws)
            self.client.ws_set_options(path=parts.path)
            address = (parts.hostname, parts.port)
        if transport == "tls":
            address = ("localhost", address[1])
        more = {}
        if version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_s
            more = {"clean_start": clean, "properties": properties}
        self.client.connect(*address, **more)
        self.client.loop_start()
        assert self.connected.wait(DEADLINE_S), "no CONNACK"

    def _on_connect(self, _client, _data, flags, code, _properties) -> None:
        assert not code.is_failure, code
        self.flags = flags
        self.connected.set()

    def __enter__(self) -> Paho:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic: str, qos: int = 1, **options) -> None:
        arguments = {"options": SubscribeOptions(qos=qos, **options)} if options else {"qos": qos}
        self.client.subscribe(topic, **arguments)
        codes = self.subscribed.get(timeout=DEADLINE_S)
        assert [code.value for code in codes] == [qos]

    def publish(self, topic: str, payload: bytes = b"", qos: int = 1, **options) -> None:
        self.client.publish(topic, payload, qos, **options).wait_for_publish(DEADLINE_S)

    def next(self) -> paho.MQTTMessage:
        return self.messages.get(timeout=DEADLINE_S)

    def cut(self) -> None:
        """Lose the connection without a DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


TRANSPORTS = ["tcp", "tls", "ws", "wss"]


@pytest.fixture(params=[4, 5], ids=["3.1.1", "5"])
def version(request) -> Iterator[int]:
    return request.param


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_and_subscribe(broker, unique, topic, version, transport, qos):
    with Paho(broker, unique("sub"), version=version, transport=transport) as subscriber, \
            Paho(broker, unique("pub"), version=version, transport=transport) as publisher:
        subscriber.subscribe(topic, qos)
        for number in range(20):
            publisher.publish(topic, b"%d" % number, qos)
        found = [subscriber.next() for _ in range(20)]
        assert [one.payload for one in found] == [b"%d" % number for number in range(20)]
        assert {(one.qos, one.retain, one.dup, one.topic) for one in found} == {(qos, False, False, topic)}


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_a_large_payload(broker, unique, topic, version, transport):
    payload = bytes(range(256)) * (2000 if transport == "tcp" else 300)     # paho masks slowly
    with Paho(broker, unique(), version=version, transport=transport) as client:
        client.subscribe(topic, 1)
        client.publish(topic, payload)
        assert client.next().payload == payload


def test_retained(broker, unique, topic, version):
    with Paho(broker, unique("pub"), version=version) as publisher, Paho(broker, unique("s"), version=version) as one:
        publisher.publish(topic, b"kept", retain=True)
        one.subscribe(topic)
        found = one.next()
        assert (found.payload, found.retain) == (b"kept", True)
        publisher.publish(topic, b"", retain=True)
        assert one.next().payload == b""


def test_will(broker, unique, topic, version):
    with Paho(broker, unique("watch"), version=version) as watcher:
        watcher.subscribe(topic)
        Paho(broker, unique("dies"), version=version, will=(topic, b"gone", 1, False)).cut()
        assert watcher.next().payload == b"gone"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_persistent_session_gets_what_it_missed(broker, unique, topic, version, transport):
    options = {"version": version, "clean": False, "expiry_s": 60, "transport": transport}
    with Paho(broker, unique("sub"), **options) as subscriber:
        subscriber.subscribe(topic, 2)
    with Paho(broker, unique("pub"), version=version) as publisher:
        for number in range(50):
            publisher.publish(topic, b"%d" % number, 1 + number % 2)
    with Paho(broker, unique("sub"), **options) as subscriber:
        assert subscriber.flags.session_present
        found = [subscriber.next() for _ in range(50)]
        for qos in (1, 2):      # paho hands over QoS 2 at PUBREL, so the order between both is not the broker's
            payloads = [one.payload for one in found if one.qos == qos]
            assert payloads == [b"%d" % number for number in range(qos - 1, 50, 2)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_shared_subscription(broker, unique, topic, version, qos):
    group = f"$share/{unique('g')}/{topic}"
    with Paho(broker, unique("a"), version=version) as one, Paho(broker, unique("b"), version=version) as two, \
            Paho(broker, unique("pub"), version=version) as publisher:
        both: queue.Queue[tuple[str, bytes]] = queue.Queue()
        for name, member in (("a", one), ("b", two)):
            member.client.on_message = lambda _c, _d, message, name=name: both.put((name, message.payload))
            member.subscribe(group, qos)
        for number in range(40):
            publisher.publish(topic, b"%d" % number, qos)
        got = [both.get(timeout=DEADLINE_S) for _ in range(40)]
        assert sorted(payload for _, payload in got) == sorted(b"%d" % number for number in range(40))
        assert {name for name, _ in got} == {"a", "b"}


def test_many_in_flight(broker, unique, topic, version):
    """paho pipelines as far as receive maximum allows; nothing is lost or out of order."""
    with Paho(broker, unique("sub"), version=version) as subscriber, \
            Paho(broker, unique("pub"), version=version) as publisher:
        subscriber.subscribe(topic, 1)
        infos = [publisher.client.publish(topic, b"%d" % number, 1) for number in range(1000)]
        for info in infos:
            info.wait_for_publish(DEADLINE_S)
        assert [subscriber.next().payload for _ in range(1000)] == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_version_5_properties(broker, unique, topic, transport):
    """User properties in order, request/response, content type, payload format and expiry."""
    with Paho(broker, unique(), transport=transport) as client:
        client.subscribe(topic, 1)
        values = Properties(PacketTypes.PUBLISH)
        values.UserProperty = [("b", "2"), ("a", "1"), ("b", "2")]
        values.ResponseTopic = "answer/here"
        values.CorrelationData = b"\x00\x01\xff"
        values.ContentType = "text/plain"
        values.PayloadFormatIndicator = 1
        values.MessageExpiryInterval = 600
        client.publish(topic, "grüße".encode(), properties=values)
        found = client.next().properties
        assert found.UserProperty == [("b", "2"), ("a", "1"), ("b", "2")]
        assert (found.ResponseTopic, found.CorrelationData) == ("answer/here", b"\x00\x01\xff")
        assert (found.ContentType, found.PayloadFormatIndicator) == ("text/plain", 1)
        assert 500 < found.MessageExpiryInterval <= 600


def test_version_5_subscription_options(broker, unique, topic):
    """No local, retain as published and retain handling as paho writes them; a subscription identifier."""
    with Paho(broker, unique("one")) as one, Paho(broker, unique("two")) as two:
        values = Properties(PacketTypes.SUBSCRIBE)
        values.SubscriptionIdentifier = 4711
        one.client.subscribe(topic, options=SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True,
                                                             retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND),
                             properties=values)
        one.subscribed.get(timeout=DEADLINE_S)
        one.publish(topic, b"own", retain=True)
        two.publish(topic, b"other", retain=True)
        found = one.next()
        assert (found.payload, found.retain) == (b"other", True)
        assert found.properties.SubscriptionIdentifier == [4711]
        two.publish(topic, b"", retain=True)


def test_version_5_topic_alias(broker, unique, topic):
    with Paho(broker, unique()) as client:
        client.subscribe(topic, 1)
        for name in (topic, ""):
            values = Properties(PacketTypes.PUBLISH)
            values.TopicAlias = 3
            client.client.publish(name, b"x", 1, properties=values) if name else client.client._send_publish(
                1000, b"", b"y", 1, False, False, None, values)
        assert [(one.topic, one.payload) for one in (client.next(), client.next())] == [(topic, b"x"), (topic, b"y")]


def test_take_over(broker, unique, version):
    """A second client of the same id: the first one is told and disconnected."""
    with Paho(broker, unique(), version=version) as one, Paho(broker, unique(), version=version):
        assert one.disconnected.wait(DEADLINE_S)


def test_tls_refuses_an_unknown_authority(broker, unique):
    client = paho.Client(CallbackAPIVersion.VERSION2, unique())
    client.tls_set()
    with pytest.raises(ssl.SSLError):
        client.connect("localhost", broker.mqtts[1])
