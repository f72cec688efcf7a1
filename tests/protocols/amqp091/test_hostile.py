"""What a client may send wrong, and what it hears: rows 49 to 59 and 87 to 96 of the design's list of bad input."""
from __future__ import annotations

import time

import pika
import pytest

from protocols.amqp091.codec import frames, methods
from protocols.amqp091.codec.frames import method_frame
from protocols.amqp091.codec.methods import encode_method, pack_short
from protocols.amqp091.settings import AmqpSettings
from tests.protocols.amqp091.raw import Raw
from tests.protocols.amqp091.stand import Stand
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("hostile"), settings=AmqpSettings(
        channels_max=50, bindings_per_queue_max=20, partial_bytes_max=200_000, transaction_bytes_max=100_000)).start()
    yield made
    made.stop()


@pytest.fixture
def raw(stand):
    client = Raw(stand.port)
    yield client
    client.close()


@pytest.mark.parametrize("header", [
    b"AMQP\0\1\0\0", b"AMQP\3\1\0\0", b"GET / HTTP/1.1\r\n\r\n", b"AMQP\1\1\0\x09", b"X"])
def test_a_wrong_header_is_answered_with_the_right_one(stand, header):
    """49"""
    client = Raw(stand.port, login=False)
    client.send_raw(header)
    assert client.socket.recv(8) == frames.PROTOCOL_HEADER
    assert client.socket.recv(1) == b""


def test_a_header_in_pieces_is_one(stand):
    client = Raw(stand.port, login=False)
    for byte in frames.PROTOCOL_HEADER:
        client.send_raw(bytes((byte,)))
        time.sleep(0.005)
    client.log_in()
    client.close()


@pytest.mark.parametrize(("data", "code"), [
    (b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x0a\x00", 501),                     # 50: frame end
    (b"\x01\x00\x01\x7f\xff\xff\xff", 501),                                         # 51: size
    (b"\x05\x00\x00\x00\x00\x00\x00\xce", 501),                                     # unknown type of frame
    (b"\x08\x00\x01\x00\x00\x00\x00\xce", 505),                                     # heartbeat on a channel
    (method_frame(9, encode_method(methods.BasicQos())), 504),                      # 53: channel not open
    (method_frame(0, b"\x00\x0a\x00\x63"), 503),                                    # 53: unknown method
    (method_frame(0, b"\x00\x77\x00\x01"), 503),
    (method_frame(0, b"\x00"), 502),
    (method_frame(0, encode_method(methods.ConnectionStartOk())), 503),
    (b"\x02\x00\x00\x00\x00\x00\x0e" + b"\0" * 14 + b"\xce", 505),
])
def test_hard_errors_close_the_connection_with_their_code(stand, raw, data, code):
    raw.send_raw(data)
    assert raw.closed()[0] == code
    _alive(stand)


def _alive(stand):
    """Somebody else is served."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))
    connection.channel().queue_declare("alive", exclusive=True)
    connection.close()


@pytest.mark.parametrize(("payload", "code"), [
    (b"\x00\x14\x00\x0b\x00\x00\x00\x00", 503),                                     # a method that only we send
    (b"\x00\x32\x00\x0a\x00\x00\xff", 502),                                         # 59: short string cut off
    (b"\x00\x32\x00\x0a\x00\x00\x03a\0b\x00\x00\x00\x00\x00", 502),                 # 59: NUL in a name
    (b"\x00\x32\x00\x0a\x00\x00\x01\xff\x00\x00\x00\x00\x00", 502),                 # not UTF-8
    (b"\x00\x32\x00\x0a\x00\x00\x01q\x00\xff\xff\xff\xff", 502),                    # 54: table longer than the frame
    (b"\x00\x32\x00\x0a\x00\x00\x01q\x00\x00\x00\x00\x07\x01kS\xff\xff\xff\xff", 502),
    (b"\x00\x32\x00\x0a\x00\x00\x01q\x00\x00\x00\x00\x03\x01kZ", 501),              # unknown type of field
    (encode_method(methods.ChannelOpen()), 504),                                    # second channel.open
    (encode_method(methods.BasicQos(1, 0)), 540),
    (encode_method(methods.BasicRecover(False)), 540),
    (encode_method(methods.BasicPublish(0, "", "q", False, True)), 540),            # immediate
])
def test_bad_methods_on_a_channel_are_hard_errors(stand, raw, payload, code):
    raw.open()
    raw.send_raw(method_frame(1, payload))
    assert raw.closed()[0] == code
    _alive(stand)


def test_a_table_ten_thousand_deep_is_502(stand, raw):
    """54"""
    table = b"\0\0\0\0"
    for _ in range(10_000):
        body = b"\x01kF" + table
        table = len(body).to_bytes(4, "big") + body
    raw.open()
    raw.send_raw(method_frame(1, b"\x00\x32\x00\x0a\x00\x00\x01q\x00" + table))
    assert raw.closed()[0] == 502


def test_content_out_of_order_is_505(raw):
    """53"""
    raw.open()
    raw.send_raw(b"\x03\x00\x01\x00\x00\x00\x01x\xce")
    assert raw.closed()[0] == 505


def test_a_method_before_the_body_is_505(raw):
    raw.open()
    raw.send(1, methods.BasicPublish(0, "", "q"))
    raw.send(1, methods.BasicQos())
    assert raw.closed()[0] == 505


def test_a_body_longer_than_its_header_is_505(raw):
    raw.open()
    raw.send(1, methods.BasicPublish(0, "", "q"))
    raw.send_raw(b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00" + (3).to_bytes(8, "big") + b"\0\0\xce")
    raw.send_raw(b"\x03\x00\x01\x00\x00\x00\x04xxxx\xce")
    assert raw.closed()[0] == 505


@pytest.mark.parametrize("size", [(1 << 63) - 1, (1 << 64) - 1, 1024 * 1024 + 1])
def test_a_body_that_is_too_large_is_refused_at_its_header(raw, size):
    """52: nothing is waited for, nothing is kept."""
    raw.open()
    raw.send(1, methods.BasicPublish(0, "", "q"))
    raw.send_raw(b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00" + size.to_bytes(8, "big") + b"\0\0\xce")
    assert raw.channel_closed()[0] == 311


def test_bodies_that_never_come_whole_are_bounded(raw):
    for number in range(1, 4):
        raw.open(number)
    for number in range(1, 4):
        raw.send(number, methods.BasicPublish(0, "", "q"))
        raw.send_raw(frames._CONTENT_HEAD.pack(2, number, 14, 60, 0, 90_000) + b"\0\0\xce")
    assert raw.closed()[0] == 506


@pytest.mark.parametrize(("tune", "code"), [
    (methods.ConnectionTuneOk(10, 100, 0), 530), (methods.ConnectionTuneOk(10, 4_095, 0), 530),
    (methods.ConnectionTuneOk(60_000, 131_072, 0), 530), (methods.ConnectionTuneOk(10, 1 << 31, 0), 530),
])
def test_tuning_keeps_within_what_was_offered(stand, tune, code):
    """51"""
    client = Raw(stand.port, login=False)
    client.send_raw(frames.PROTOCOL_HEADER)
    client.expect(methods.ConnectionStart)
    client.send(0, methods.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest", "en_US"))
    client.expect(methods.ConnectionTune)
    client.send(0, tune)
    assert client.closed()[0] == code


@pytest.mark.parametrize(("mechanism", "response", "code"), [
    ("PLAIN", b"guest", 502), ("AMQPLAIN", b"\x05LOGIN", 502), ("AMQPLAIN", b"", 502), ("CRAM-MD5", b"", 503),
    ("EXTERNAL", b"", 403), ("PLAIN", b"\0\xff\xff\0x", 502),
])
def test_logins_that_are_none(stand, mechanism, response, code):
    client = Raw(stand.port, login=False)
    client.send_raw(frames.PROTOCOL_HEADER)
    client.expect(methods.ConnectionStart)
    client.send(0, methods.ConnectionStartOk({}, mechanism, response, "en_US"))
    assert client.closed()[0] == code


def test_amqplain_is_a_login(stand):
    client = Raw(stand.port, login=False)
    client.send_raw(frames.PROTOCOL_HEADER)
    client.log_in(mechanism="AMQPLAIN", response=(
        b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest"))
    client.close()


@pytest.mark.parametrize("vhost", ["/", ""])
def test_the_vhost_of_javas_uri_is_the_usual_one(stand, vhost):
    client = Raw(stand.port, login=False)
    client.send_raw(frames.PROTOCOL_HEADER)
    client.log_in(vhost=vhost)
    client.close()


def test_an_unknown_tag_closes_the_channel_once(raw):
    """55, and what was on its way does no harm (LavinMQ 11)."""
    raw.open()
    raw.send(1, methods.BasicAck(7))
    raw.send(1, methods.BasicAck(8))
    raw.publish(1, "", "nowhere", b"late")
    raw.send(1, methods.QueueDeclare(0, "late", passive=True))
    assert raw.channel_closed() == (406, "PRECONDITION_FAILED - unknown delivery tag 7")
    raw.send(1, methods.ChannelCloseOk())
    raw.open()


def test_a_forged_direct_reply_to_is_403(stand, raw):
    """57"""
    raw.open()
    raw.publish(1, "", "amq.rabbitmq.reply-to.1.00000000000000000000000000000000", b"forged")
    assert raw.channel_closed()[0] == 403


def test_direct_reply_to_has_rabbitmqs_texts(stand):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))
    for act, text in (
            (lambda one: one.basic_consume("amq.rabbitmq.reply-to", print),
             "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
            (lambda one: [one.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True) for _ in range(2)],
             "PRECONDITION_FAILED - reply consumer already set"),
            (lambda one: (one.confirm_delivery(), one.basic_publish("", "x", b"", pika.BasicProperties(
                reply_to="amq.rabbitmq.reply-to"))), "PRECONDITION_FAILED - fast reply consumer does not exist")):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
            act(connection.channel())
        assert error.value.reply_text == text
    assert connection.channel().queue_declare("amq.rabbitmq.reply-to", passive=True).method.queue
    connection.close()


def test_channels_are_bounded(raw):
    """58"""
    raw.open(50)
    raw.send(51, methods.ChannelOpen())
    assert raw.closed()[0] == 530


def test_bindings_are_bounded(stand, raw):
    """58"""
    raw.open()
    raw.send(1, methods.QueueDeclare(0, "bound"))
    raw.expect(methods.QueueDeclareOk)
    for number in range(25):
        raw.send(1, methods.QueueBind(0, "bound", "amq.topic", f"k{number}"))
    assert raw.closed()[0] == 506
    _alive(stand)


def test_a_transaction_is_bounded(raw):
    raw.open()
    raw.send(1, methods.TxSelect())
    raw.expect(methods.TxSelectOk)
    for _ in range(60):
        raw.publish(1, "amq.topic", "k", b"x" * 2_000)
    assert raw.closed()[0] == 506


def test_a_client_that_says_nothing_is_closed(tmp_path):
    stand = Stand(tmp_path, settings=AmqpSettings(connect_timeout_s=0.3)).start()
    client = Raw(stand.port, login=False)
    assert client.socket.recv(1) == b""
    client = Raw(stand.port, login=False)
    client.send_raw(frames.PROTOCOL_HEADER)
    client.expect(methods.ConnectionStart)
    assert client.closed() is None
    stand.stop()


def test_a_client_that_misses_its_heartbeats_is_closed(stand):
    """And one that sends them is not; it gets ours."""
    quiet = Raw(stand.port, login=False)
    quiet.send_raw(frames.PROTOCOL_HEADER)
    quiet.log_in(tune=methods.ConnectionTuneOk(10, 131_072, 1))
    beats = []
    while (found := quiet.frame()) is not None:
        beats.append(found)
        assert len(beats) < 20
    assert beats and all(beat == (frames.HEARTBEAT, 0, b"") for beat in beats)


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "ä" * 100, "x" * 255, "#", "+", "$SYS", " ", "mqtt/session"])
def test_names_of_any_characters_are_names_of_queues_and_exchanges(stand, name):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"straight", mandatory=True)
    assert channel.basic_get(name, auto_ack=True)[2] == b"straight"
    channel.exchange_declare(name, "topic", auto_delete=True)
    channel.queue_bind(name, name, "#")
    channel.basic_publish(name, name[:100], b"by topic", mandatory=True)
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (method.exchange, method.routing_key, body) == (name, name[:100], b"by topic")
    connection.close()


def test_properties_come_out_byte_for_byte(raw):
    """Widths of numbers, order and bytes that are no text included."""
    table = b"\x01ab\x05" + b"\x01bu\x00\x07" + b"\x01cS\x00\x00\x00\x02\xff\xfe" + b"\x01aV"
    properties = (1 << 13 | 1 << 5).to_bytes(2, "big") + len(table).to_bytes(4, "big") + table + pack_short("kind")
    raw.open()
    raw.send(1, methods.QueueDeclare(0, "bytes", exclusive=True))
    raw.expect(methods.QueueDeclareOk)
    raw.publish(1, "", "bytes", b"body", properties)
    raw.send(1, methods.BasicGet(0, "bytes", True))
    raw.expect(methods.BasicGetOk)
    assert raw.frame()[2][12:] == properties
    assert raw.frame()[2] == b"body"


def test_a_bad_content_header_is_a_hard_error(raw):
    raw.open()
    raw.publish(1, "", "q", b"", b"\x20\x00\x00\x00\xff\xff")
    assert raw.closed()[0] == 502


def test_a_right_that_is_taken_away_ends_reading(tmp_path):
    """93: what waits in the queue is not delivered any more."""
    from routing.rights.policy import Action, Rule
    everybody = Rule(allow=tuple(Action), to=("*",))
    stand = Stand(tmp_path, rules=(everybody,)).start()
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))
    channel = connection.channel()
    channel.queue_declare("secret")
    channel.queue_bind("secret", "amq.topic", "secret.#")
    got = []
    channel.basic_consume("secret", lambda *found: got.append(found[3]), auto_ack=True)
    channel.basic_publish("amq.topic", "secret.1", b"before")
    wait_until(lambda: connection.process_data_events(0.05) or got == [b"before"], "it came")
    stand.do(lambda: stand.router.apply_rules([everybody, Rule(deny=(Action.SUBSCRIBE,), to=("*",),
                                                               topics=("secret/#",))]))
    stand.publish("secret/2", b"after")
    connection.process_data_events(0.5)
    assert got == [b"before"]
    connection.close()
    stand.stop()
