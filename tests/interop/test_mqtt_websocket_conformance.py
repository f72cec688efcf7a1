"""MQTT over WebSocket from outside (MQTT 5 chapter 6), with a WebSocket client library and packets written by hand."""
from __future__ import annotations

from socket import SHUT_RDWR

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from tests.support import rawmqtt as m
from tests.support.rawmqtt import connect_packet, publish_packet, subscribe_packet


def take(socket, size: int) -> bytes:
    """At least size bytes of the stream, from as many frames as it takes."""
    out = b""
    while len(out) < size:
        frame = socket.recv(timeout=m.DEADLINE_S)
        assert isinstance(frame, bytes), "MQTT in a text frame"        # [MQTT-6.0.0-1]
        out += frame
    return out


def test_the_subprotocol_is_mqtt(broker, unique):
    """[MQTT-6.0.0-3] [MQTT-6.0.0-4] The client asks for "mqtt", the server selects it; frames are binary."""
    with connect(broker.ws, subprotocols=["mqtt"]) as socket:
        assert socket.subprotocol == "mqtt"
        socket.send(connect_packet(unique(), version=4))
        assert take(socket, 4) == b"\x20\x02\x00\x00"


def test_mqtt_is_chosen_among_several_subprotocols(broker, unique):
    """[MQTT-6.0.0-3] The list may hold others."""
    with connect(broker.ws, subprotocols=["other", "mqtt"]) as socket:
        assert socket.subprotocol == "mqtt"


@pytest.mark.mosquitto_deviates("takes it")
def test_without_the_subprotocol_the_handshake_fails(broker):
    """[MQTT-6.0.0-3] HTTP 400."""
    with pytest.raises(InvalidHandshake) as failure, connect(broker.ws):
        pass
    assert failure.value.response.status_code == 400


def test_packets_may_be_split_over_frames_and_frames_hold_several(broker, unique, topic):
    """[MQTT-6.0.0-2] Frames are not aligned with packets."""
    with connect(broker.ws, subprotocols=["mqtt"]) as socket:
        for byte in connect_packet(unique(), version=4):
            socket.send(bytes([byte]))
        assert take(socket, 4) == b"\x20\x02\x00\x00"
        socket.send(subscribe_packet(1, [(topic, 1)], version=4)
                    + publish_packet(topic, b"one", qos=1, packet_id=2, version=4)
                    + publish_packet(topic, b"two", version=4)[:5])
        socket.send(publish_packet(topic, b"two", version=4)[5:] + b"\xc0\x00")
        expected = {b"\x90\x03\x00\x01\x01": "SUBACK", b"\x40\x02\x00\x02": "PUBACK", b"\xd0\x00": "PINGRESP",
                    b"one": "one", b"two": "two"}
        stream = b""
        while not all(part in stream for part in expected):
            stream += take(socket, 1)
        assert stream.index(b"\x90\x03") < stream.index(b"\x40\x02\x00\x02")


@pytest.mark.mosquitto_deviates("ignores it")
def test_a_text_frame_closes_the_connection(broker, unique):
    """[MQTT-6.0.0-1]."""
    with connect(broker.ws, subprotocols=["mqtt"]) as socket:
        socket.send(connect_packet(unique(), version=4))
        take(socket, 4)
        socket.send("text")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=m.DEADLINE_S)


def test_a_will_is_sent_when_the_websocket_breaks(broker, unique, topic):
    """[MQTT-3.1.2-8] over this transport too."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        with connect(broker.ws, subprotocols=["mqtt"]) as socket:
            socket.send(connect_packet(unique(), version=4, will=m.Will(topic, b"gone", qos=1)))
            take(socket, 4)
            socket.socket.shutdown(SHUT_RDWR)
        assert watcher.message().payload == b"gone"


def test_a_session_moves_between_transports(broker, unique, topic):
    """§4.1: a session belongs to the client id; begun on a WebSocket, resumed on TCP."""
    with connect(broker.ws, subprotocols=["mqtt"]) as socket:
        socket.send(connect_packet(unique(), version=4, clean=False) + subscribe_packet(1, [(topic, 1)], version=4))
        take(socket, 9)
        socket.send(b"\xe0\x00")
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"kept")
    with broker.connect(unique(), version=4, clean=False) as client:
        assert client.connack.session_present
        assert client.message().payload == b"kept"
