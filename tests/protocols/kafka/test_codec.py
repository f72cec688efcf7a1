"""Every API and version that is served reads what kio and kafka-python write, and writes the same bytes again."""
from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from protocols.kafka.api import find_apis
from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.codec.fields import parse
from protocols.kafka.codec.read import decode, struct_reader
from protocols.kafka.codec.write import struct_writer, varint
from tests.protocols.kafka import oracle

APIS = find_apis()
ROUNDS = 15


def plain(value):
    """Decoded structs as the dicts that writers take."""
    if isinstance(value, SimpleNamespace):
        return {name: plain(inner) for name, inner in vars(value).items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("key", APIS, ids=lambda key: APIS[key].schema.name)
def test_messages_of_kio_are_read_and_written_again_as_they_were(key):
    schema = APIS[key].schema
    rng = random.Random(key)
    seen = 0
    for version in range(schema.first, schema.last + 1):
        for request in (True, False):
            cls = oracle.schema(key, version, request=request)
            if cls is None:
                continue
            assert bool(cls.__flexible__) == schema.is_flexible(version), version
            for _ in range(ROUNDS):
                data = oracle.written(oracle.make(rng, cls))
                if request:
                    message = schema.decode_request(data, 0, version)
                else:
                    message = schema.decode_response(data, 0, version)
                out = []
                (schema.encode_request if request else schema.encode_response)(out, plain(message), version)
                assert b"".join(out) == data, (version, request, message)
                seen += 1
    assert seen >= 2 * ROUNDS


def test_a_response_without_values_is_written_with_the_defaults():
    for api in APIS.values():
        for version in range(api.schema.first, api.schema.last + 1):
            out = []
            api.schema.encode_response(out, {}, version)
            api.schema.decode_response(b"".join(out), 0, version)


ALL = parse("""
    number int32
    name string?
    list []string
    inner [] {
        data bytes
    }
    extra int32 1+ tag=3
""")


def read(data, version=1):
    return decode(struct_reader(ALL, version, flexible=version > 0), data, 0, 1_000)


GOOD = bytes([0, 0, 0, 5, 0, 1, 1, 0])


def test_the_good_one():
    message = read(GOOD)
    assert (message.number, message.name, message.list, message.inner, message.extra) == (5, None, [], [], 0)


@pytest.mark.parametrize("data", [
    b"", GOOD[:3], GOOD[:-1], GOOD[:4] + b"\x7f" + b"abc",                      # too short
    GOOD[:5] + b"\xff\xff\xff\xff\x0f" + b"\x01\x00",                           # 2^32 - 1 elements
    GOOD[:5] + b"\xff\xff\xff\xff\xff\xff\x01\x00",                             # a varint without end
    GOOD[:5] + b"\xff\xff\xff\xff\x7f\x00",                                     # a varint above 32 bits
    GOOD[:4] + b"\x03\xff\xfe" + GOOD[5:],                                      # not UTF-8
    GOOD[:5] + b"\x00\x01\x00",                                                 # null where none may be
    GOOD[:7] + b"\x01\x03\x09\0\0\0\1",                                         # a tag longer than the request
    GOOD[:7] + b"\x01\x03\x05\0\0\0\1\0",                                       # a tag longer than its field
    GOOD[:7] + b"\xff\xff\xff\xff\x07",                                         # 2^31 tags
])
def test_bytes_that_are_no_message_are_malformed(data):
    with pytest.raises(MalformedRequest):
        read(data)


def test_old_counts_are_checked_before_anything_is_made():
    body = b"\0\0\0\5\xff\xff" + (2**31 - 1).to_bytes(4, "big")
    with pytest.raises(MalformedRequest, match="more elements than the request has bytes"):
        read(body, version=0)
    with pytest.raises(MalformedRequest, match="negative"):
        read(b"\0\0\0\5\xff\xff" + (-2).to_bytes(4, "big", signed=True), version=0)


def test_the_elements_of_a_request_are_bounded():
    body = b"\0\0\0\5\xff\xff" + (1_001).to_bytes(4, "big") + b"\0\0" * 1_001 + b"\0\0\0\0"
    with pytest.raises(MalformedRequest, match="too many array elements"):
        read(body, version=0)


def test_unknown_tags_are_passed_over_and_known_ones_are_read():
    assert read(GOOD[:7] + b"\x02\x01\x02ab\x03\x04\0\0\0\x09").extra == 9


def test_noise_raises_nothing_else():
    rng = random.Random(1)
    for key, api in APIS.items():
        for version in range(api.schema.first, api.schema.last + 1):
            for _ in range(20):
                data = rng.randbytes(rng.randrange(60))
                try:
                    api.schema.decode_request(data, 0, version)
                except MalformedRequest:
                    pass
                except Exception as error:
                    raise AssertionError((key, version, data)) from error


def test_only_what_differs_from_its_default_is_written_as_a_tag():
    out = []
    struct_writer(ALL, 1, flexible=True)(out, {"number": 5, "extra": 0})
    assert b"".join(out) == GOOD


def test_varints():
    assert [varint(value) for value in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\x01", b"\xac\x02"]


@pytest.mark.parametrize("text", ["name", "name text", "}", "x int32 {", "a []"])
def test_the_notation_refuses_what_it_does_not_know(text):
    with pytest.raises(ValueError):
        parse(text)
