"""Methods, tables, properties and frames against pamqp, which was generated from the specification."""
from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal

import pamqp.commands
import pamqp.decode
import pamqp.encode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import header as pamqp_header
from pamqp.frame import marshal, unmarshal

from protocols.amqp091.codec import methods
from protocols.amqp091.codec.codes import FRAME_ERROR, SYNTAX_ERROR, HardError
from protocols.amqp091.codec.frames import Cutter, Frame, content_frames, method_frame
from protocols.amqp091.codec.methods import METHODS, decode_method, encode_method
from protocols.amqp091.codec.properties import Content, decode_properties, encode_properties
from protocols.amqp091.codec.tables import (
    DEPTH_MAX,
    Timestamp,
    decode_table,
    encode_table,
    encode_value,
    with_field,
    without_field,
)

_VALUES = {"o": 7, "h": 300, "l": 70_000, "L": 1 << 40, "s": "name", "S": b"0", "t": {"a": 1 << 40, "b": "x"}}
_SAMPLES = {"exchange": "x", "queue": "q", "out_of_band": "0"}
_DEFAULTS = ("ticket", "immediate", "capabilities", "insist", "internal", "known_hosts", "cluster_id", "channel_id")
# not in pamqp, or in another form than RabbitMQ and its clients use
_RABBITS = {(30, 10), (30, 11), (60, 100), (10, 70), (10, 71), (20, 11)}


def _sample(cls):
    values = []
    for number, (letter, name) in enumerate(zip(cls.layout, cls.__struct_fields__)):
        if name in _DEFAULTS:
            values.append(cls().__getattribute__(name))
        elif letter == "b":
            values.append(number % 2 == 0)
        else:
            values.append(_SAMPLES.get(name, _VALUES[letter]))
    return cls(*values)


@pytest.mark.parametrize("cls", [cls for cls in METHODS.values() if cls.id not in _RABBITS], ids=lambda cls: cls.name)
def test_every_method_is_written_and_read_as_pamqp_does(cls):
    ours = _sample(cls)
    payload = encode_method(ours)
    assert decode_method(payload, 0, len(payload)) == ours
    size, channel, theirs = unmarshal(method_frame(3, payload))
    assert (size, channel) == (len(payload) + 8, 3)
    assert theirs.name.replace(".", "").lower() == cls.name.replace(".", "").replace("-", "").lower()
    again = marshal(theirs, 3)
    assert again == method_frame(3, payload)


@pytest.mark.parametrize("cls", METHODS.values(), ids=lambda cls: cls.name)
def test_a_method_that_is_cut_or_too_long_is_a_syntax_error(cls):
    payload = encode_method(_sample(cls))
    for cut in range(4, len(payload)):
        with pytest.raises(HardError) as error:
            decode_method(payload[:cut], 0, cut)
        assert error.value.wire_code in (SYNTAX_ERROR, FRAME_ERROR)
    with pytest.raises(HardError):
        decode_method(payload + b"x", 0, len(payload) + 1)


def test_tables_agree_with_pamqp():
    table = {"t": True, "i": 5, "l": 1 << 40, "s": "ä", "d": 1.5, "n": None, "f": {"x": [1, "two", {"y": False}]},
             "x": b"\xff\x00", "D": Decimal("3.14"), "T": Timestamp(1_700_000_000)}
    ours = encode_table(table)
    theirs = pamqp.decode.field_table(ours)[1]
    assert theirs["T"] == datetime.fromtimestamp(1_700_000_000, UTC)
    assert {name: value for name, value in theirs.items() if name not in ("T", "D")} == {
        name: value for name, value in table.items() if name not in ("T", "D")}
    assert decode_table(ours, 0, len(ours)) == (table, len(ours))
    made = {key: value for key, value in theirs.items() if key != "D"}
    back = decode_table(data := pamqp.encode.field_table(made), 0, len(data))[0]
    assert back == {key: value for key, value in table.items() if key != "D"}


@pytest.mark.parametrize(("letter", "raw", "value"), [
    (b"b", b"\xff", -1), (b"B", b"\xff", 255), (b"s", b"\xff\xfe", -2), (b"u", b"\xff\xfe", 65_534),
    (b"I", b"\xff\xff\xff\xff", -1), (b"i", b"\xff\xff\xff\xff", 0xFFFFFFFF), (b"l", b"\xff" * 8, -1),
    (b"f", struct.pack(">f", 0.5), 0.5), (b"V", b"", None), (b"D", b"\x02\x00\x00\x01\x3a", Decimal("3.14")),
    (b"S", b"\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
])
def test_every_type_that_clients_write_is_read(letter, raw, value):
    body = b"\x01k" + letter + raw
    data = len(body).to_bytes(4, "big") + body
    assert decode_table(data, 0, len(data))[0] == {"k": value}


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4), max_leaves=20)


@given(st.dictionaries(st.text(max_size=60), _values, max_size=6))
def test_a_table_comes_back_as_it_was(table):
    data = encode_table(table)
    assert decode_table(data, 0, len(data)) == (table, len(data))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoders_raise_anything_else(data):
    for read in (lambda: decode_table(data, 0, len(data)), lambda: decode_method(data, 0, len(data)),
                 lambda: decode_properties(data), lambda: Cutter(4096).next(data, 0)):
        try:
            read()
        except HardError:
            pass


def test_fields_are_put_in_and_taken_out_byte_for_byte():
    """A header that the server adds leaves the widths of the others as they came."""
    body = b"\x01ab\x05" + b"\x01bu\x00\x07"
    table = len(body).to_bytes(4, "big") + body
    added = with_field(table, "c", encode_value(1))
    assert added[4:].startswith(body)
    assert without_field(added, "c") == table
    assert without_field(table, "a")[4:] == b"\x01bu\x00\x07"


def _nested(depth: int) -> bytes:
    data = b"\x00\x00\x00\x00"
    for _ in range(depth):
        body = b"\x01kF" + data
        data = len(body).to_bytes(4, "big") + body
    return data


def test_tables_are_nested_a_hundred_deep_and_no_deeper():
    """hostile 54"""
    data = _nested(DEPTH_MAX)
    decode_table(data, 0, len(data))
    for deeper in (_nested(DEPTH_MAX + 1), _nested(10_000)):
        with pytest.raises(HardError) as error:
            decode_table(deeper, 0, len(deeper))
        assert error.value.wire_code == SYNTAX_ERROR


@pytest.mark.parametrize(("data", "code"), [
    (b"\xff\xff\xff\xff", SYNTAX_ERROR),
    (b"\x00\x00\x00\x07\x01kS\xff\xff\xff\xff", SYNTAX_ERROR),
    (b"\x00\x00\x00\x03\x01kZ", FRAME_ERROR),
    (b"\x00\x00\x00\x03\x01kT", SYNTAX_ERROR),
    (b"\x00\x00\x00\x02\x05k", SYNTAX_ERROR),
])
def test_a_bad_table_is_an_error_with_its_code(data, code):
    with pytest.raises(HardError) as error:
        decode_table(data, 0, len(data))
    assert error.value.wire_code == code


def test_properties_agree_with_pamqp():
    ours = Content("text/plain", "utf-8", {"a": 1}, 2, 5, "c1", "r", "1000", "m1", 1_700_000_000, "t", "guest", "app")
    raw = encode_properties(ours)
    theirs = pamqp.commands.Basic.Properties(
        "text/plain", "utf-8", {"a": 1}, 2, 5, "c1", "r", "1000", "m1", datetime.fromtimestamp(1_700_000_000, UTC),
        "t", "guest", "app")
    # pamqp writes small numbers as 8 bits, we as 32
    assert raw.replace(b"aI\x00\x00\x00\x01", b"ab\x01").replace(b"\x07\x01a", b"\x04\x01a") == theirs.marshal()
    found = decode_properties(raw)
    assert found.raw_headers is not None
    found.raw_headers = None
    assert found == ours


def test_content_is_cut_into_frames_as_large_as_allowed():
    data = content_frames(1, b"\x00\x00", b"x" * 10_000, 4096)
    sizes = []
    while data:
        size, channel, frame = unmarshal(data)
        assert channel == 1
        sizes.append(frame.body_size if isinstance(frame, pamqp_header.ContentHeader) else len(frame.value))
        data = data[size:]
    assert sizes == [10_000, 4088, 4088, 1824]


def test_an_empty_body_has_no_frame():
    assert len(content_frames(1, b"\x00\x00", b"", 4096)) == 7 + 14 + 1


def test_frames_may_come_in_any_pieces():
    whole = method_frame(1, encode_method(methods.ChannelOpen())) * 3
    cutter, found = Cutter(4096), 0
    for byte in whole:
        joined = cutter.join(bytes((byte,)))
        if joined is None:
            continue
        frame = cutter.next(joined, 0)
        if isinstance(frame, Frame):
            found += 1
            assert frame.end + 1 == len(joined)
        else:
            cutter.keep(joined, frame)
    assert found == 3


@pytest.mark.parametrize("data", [b"\x01\x00\x00\x00\x00\x10\x00", b"\x01\x00\x00\x7f\xff\xff\xff"])
def test_a_frame_above_the_maximum_is_501(data):
    with pytest.raises(HardError) as error:
        Cutter(4096).next(data, 0)
    assert error.value.wire_code == FRAME_ERROR
