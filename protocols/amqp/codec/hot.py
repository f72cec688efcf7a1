"""The performatives of which there are many, by hand: transfer, disposition, flow. AMQP 1.0 §2.7.4-6. Sans-IO.

They take a fifth of the time that the table takes, and say the same: tests/protocols/amqp/test_codec.py compares them.
All others by decode_performative().
"""
from __future__ import annotations

import struct
from collections.abc import Callable

from protocols.amqp.codec.composite import Composite, build, composed, encode_composite, kind_of
from protocols.amqp.codec.conditions import DECODE_ERROR, ConnectionFault, DecodeFault
from protocols.amqp.codec.decode import VALUES_MAX, Left, decode, head, text_of
from protocols.amqp.codec.performatives import (
    ACCEPTED,
    Attach,
    Disposition,
    Flow,
    Received,
    Transfer,
)
from protocols.amqp.codec.types import Value

_ACCEPTED = b"\x00\x53\x24\x45"
_LIST = (0xC0, 0xD0)
TAG = b"\xa0\x08"
FRAME_BYTES = 4 + 4 + 2 + 8 + 2
SETTLED_END, UNSETTLED_END = b"\x43\x41", b"\x43\x42"      # message-format 0, settled
_REST = b"\x42\x40\x40\x40\x40\x40", b"\x41\x40\x40\x40\x40\x40"       # from more on, of a transfer with all fields
UNSETTLED_MAX = 10_000      # items of an attach: a map of 5,000 deliveries; 10 ms
FIELDS_MAX = 64             # of a performative or section; none has more than 14


def fields(data: bytes, position: int, end: int, values_max: int = VALUES_MAX) -> tuple[list[Value], int]:
    """The items of a list that mostly holds small numbers. Returns them and where the list ends."""
    if position >= end:
        raise DecodeFault("a performative is cut off")
    code = data[position]
    if code == 0x45:
        return [], position + 1
    if code not in _LIST:
        raise DecodeFault("a performative is no list")
    count, at, stop = head(data, position + 1, end, code)
    if count > stop - at:
        raise DecodeFault("a list has more items than bytes")
    if count > FIELDS_MAX:
        raise DecodeFault(f"a performative or section of {count} fields")
    left: Left = [values_max]
    found: list[Value] = []
    add = found.append
    for _ in range(count):
        if at >= stop:
            raise DecodeFault("a list is cut off")
        code = data[at]
        if code == 0x52 and at + 1 < stop:
            add(data[at + 1])
            at += 2
        elif code == 0x43:
            add(0)
            at += 1
        elif code == 0x40:
            add(None)
            at += 1
        elif code == 0x70 and at + 5 <= stop:
            add(int.from_bytes(data[at + 1:at + 5], "big"))
            at += 5
        elif code == 0x41:
            add(True)
            at += 1
        elif code == 0x42:
            add(False)
            at += 1
        elif code == 0xA0 and at + 1 < stop and at + 2 + data[at + 1] <= stop:
            size = data[at + 1]
            add(data[at + 2:at + 2 + size])
            at += 2 + size
        elif code == 0xA1 and at + 1 < stop and at + 2 + data[at + 1] <= stop:
            size = data[at + 1]
            add(text_of(data[at + 2:at + 2 + size]))
            at += 2 + size
        elif code == 0 and data[at:at + 4] == _ACCEPTED and at + 4 <= stop:
            add(ACCEPTED)
            at += 4
        else:
            value, at = decode(data, at, stop, 0, left)
            add(composed(value))
    if at != stop:
        raise DecodeFault("a list is longer than its items")
    return found, stop


def end_of_list(data: bytes, position: int) -> int:
    """Of one whose constructor stands at position, and that was decoded before."""
    if data[position] == 0xC0:
        return position + 2 + data[position + 1]
    return position + 5 + int.from_bytes(data[position + 1:position + 5], "big")


def decode_transfer(data: bytes, position: int, end: int) -> tuple[Transfer, int]:
    """position: behind the descriptor. Returns where the payload begins, too. Raises DecodeFault."""
    found, stop = fields(data, position, end)
    count = len(found)
    if 1 <= count <= 6:                             # the usual: no settle mode, no state
        handle = found[0]
        if type(handle) is int:
            transfer = Transfer(*found)
            tag = transfer.delivery_tag
            if ((tag is None or type(tag) is bytes) and type(transfer.settled) is not int
                    and type(transfer.more) is not int and _is_number(transfer.delivery_id)
                    and _is_number(transfer.message_format)):
                return transfer, stop
    return build(Transfer, found), stop


def _is_number(value: Value) -> bool:
    return value is None or (isinstance(value, int) and value is not True and value is not False and value >= 0)


def decode_disposition(data: bytes, position: int, end: int) -> Disposition:
    return build(Disposition, fields(data, position, end)[0])


def decode_flow(data: bytes, position: int, end: int) -> Flow:
    return build(Flow, fields(data, position, end)[0])


def _uint(value: int) -> bytes:
    if value < 256:
        return b"\x52" + bytes((value,)) if value else b"\x43"
    return b"\x70" + value.to_bytes(4, "big")


def disposition(role: bool, first: int, last: int, settled: bool, state: Composite | None, *,
                full: bool = False) -> bytes:
    """Of one delivery or a range; state None: none. full: with all fields, as encode_composite() has it."""
    body = (b"\x41" if role else b"\x42") + _uint(first) + (_uint(last) if last != first else b"\x40") + (
        b"\x41" if settled else b"\x42")
    count = 4
    if state is not None:
        body += _ACCEPTED if state is ACCEPTED else encode_composite(state, full=full)
        count = 5
    if full:
        body += b"\x40" * (6 - count)
        count = 6
    if len(body) > 254:
        return b"\x00\x53\x15\xd0" + (len(body) + 4).to_bytes(4, "big") + count.to_bytes(4, "big") + body
    return b"\x00\x53\x15\xc0" + bytes((len(body) + 1, count)) + body


def transfer_head(handle: int) -> bytes:
    """The beginning of all transfers on a link, for transfer()."""
    return _uint(handle)


def transfer(start: bytes, delivery_id: int, tag: bytes, settled: bool, more: bool, message_format: int = 0, *,
             full: bool = False) -> bytes:
    """The performative of the first or only frame of a delivery. start: of transfer_head(). tag: up to 32 bytes."""
    body = b"".join((start, _uint(delivery_id), b"\xa0", bytes((len(tag),)), tag, _uint(message_format),
                     b"\x41" if settled else b"\x42", _REST[more] if full else b"\x41" if more else b""))
    return b"\x00\x53\x14\xc0" + bytes((len(body) + 1, 11 if full else 6 if more else 5)) + body


def resumed_transfer(start: bytes, delivery_id: int, tag: bytes, settled: bool, more: bool, message_format: int = 0, *,
                     full: bool = False) -> bytes:
    """As transfer(), of a delivery that begins anew at its first byte. There are few.   Source: §2.7.5, §3.4.1"""
    return encode_composite(Transfer(
        decode(start, 0, len(start))[0], delivery_id, tag, message_format, settled, more, state=Received(0, 0),
        resume=True), full=full)


def transfer_frames(channel: int, handle: int) -> tuple[Callable[..., bytes], bytes]:
    """pack and prefix of whole frames of deliveries, each with all of its message, whose tags are numbers of 8 bytes:
    pack(FRAME_BYTES + len(prefix) + len(message), prefix, number, TAG, tag, end), then the message.
    """
    start = _uint(handle)
    head = b"\x02\x00" + channel.to_bytes(2, "big") + b"\x00\x53\x14\xc0"
    prefix = head + bytes((len(start) + 18, 5)) + start + b"\x70"
    return struct.Struct(f">I{len(prefix)}sI2sQ2s").pack, prefix


def transfer_more(start: bytes, more: bool, *, full: bool = False) -> bytes:
    """That of a later frame."""
    body = start + b"\x40\x40\x40\x40" + (_REST[more] if full else b"\x41" if more else b"\x42")
    return b"\x00\x53\x14\xc0" + bytes((len(body) + 1, 11 if full else 6)) + body


def decode_performative(data: bytes, start: int, end: int) -> Composite:
    """What a frame holds, other than a transfer: from the table. Raises ConnectionFault, DecodeFault."""
    if start >= end or data[start]:
        raise ConnectionFault(DECODE_ERROR, "a frame does not begin with a performative")
    descriptor, position = decode(data, start + 1, end, 1)
    kind = kind_of(descriptor)
    if kind is None:
        raise ConnectionFault(DECODE_ERROR, f"unknown performative {descriptor!r:.60}")
    return build(kind, fields(data, position, end, UNSETTLED_MAX if kind is Attach else VALUES_MAX)[0])
