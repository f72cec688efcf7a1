"""CloudEvents 1.0: a value, its validation, the JSON format (one and batch) and the HTTP binary mode. Sans-IO.

A leaf module of the protocols: HTTP and WebSocket call it, and cloudevents_event.py turns the value into an Event.

    structured   application/cloudevents+json         {"specversion": "1.0", "id": …, "source": …, "type": …, "data": …}
    batch        application/cloudevents-batch+json   [ …, … ]
    binary       anything else, ce-specversion: 1.0   attributes as ce-* fields, the body is the data

Sources: CloudEvents spec 1.0.2 §3 (attributes), JSON format §2-4, HTTP protocol binding §3. Only CloudEventError comes
out of the parsers; its text is safe to show to the client.
"""
from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

MEDIA_TYPE = "application/cloudevents+json"
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
JSON_CONTENT_TYPE = f"{MEDIA_TYPE}; charset=utf-8"
BATCH_CONTENT_TYPE = f"{BATCH_MEDIA_TYPE}; charset=utf-8"
SPECVERSION = "1.0"
HTTP_PREFIX = "ce-"
REQUIRED = ("specversion", "id", "source", "type")

NAME_CHARS_MAX = 64             # the specification asks producers for 20 at most; room for those that do not listen
TEXT_BYTES_MAX = 8_192          # one attribute; a header field of the HTTP listener holds about as much
ATTRIBUTES_MAX = 256            # of one event
INTEGER_MIN, INTEGER_MAX = -2**31, 2**31 - 1            # CloudEvents §3.1: a signed 32-bit number
DEPTH_MAX_TEXT = "the JSON is nested too deeply"

_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_URI_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?#[]@!$&'()*+,;=%")
_TOKEN_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~")
_HEADER_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')     # HTTP binding §3.1.3.2
Shape = TypeVar("Shape")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode

Value: TypeAlias = str | int | bool


class CloudEventError(ValueError):
    """Not a CloudEvent 1.0. The text names the attribute and what is expected."""


class CloudEvent(msgspec.Struct, frozen=True):
    """One event: its context attributes but datacontenttype, in the order in which they came, and its data."""

    attributes: dict[str, Value]        # specversion, id, source and type are always there
    content_type: str | None = None     # datacontenttype
    data: bytes | None = None           # None: no data. JSON data as it was written
    is_text: bool = False               # data came as a JSON string, although the content type is not JSON


# -- which mode ------------------------------------------------------------------------------------------------------

def media_type(content_type: str | None) -> str:
    """The type/subtype of a Content-Type in lower case, without its parameters; "" without one."""
    return "" if content_type is None else content_type.partition(";")[0].strip().lower()


def is_structured(content_type: str | None) -> bool:
    return media_type(content_type) == MEDIA_TYPE


def is_batch(content_type: str | None) -> bool:
    return media_type(content_type) == BATCH_MEDIA_TYPE


def check_format(content_type: str) -> None:
    """Of a content type that begins with application/cloudevents: raise unless we read it."""
    found = media_type(content_type)
    if found not in (MEDIA_TYPE, BATCH_MEDIA_TYPE):
        raise CloudEventError(f"of the CloudEvents formats only {MEDIA_TYPE} and {BATCH_MEDIA_TYPE} are understood")
    for part in content_type.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise CloudEventError("CloudEvents in JSON are UTF-8")


def is_json(content_type: str | None) -> bool:
    """True when data of this type is JSON: …/json or …+json.                      Source: JSON format §3.1"""
    found = media_type(content_type)
    return found.endswith(("/json", "+json"))


# -- JSON ------------------------------------------------------------------------------------------------------------

def parse_json(raw: bytes) -> CloudEvent:
    """One event in the JSON format. Raises CloudEventError."""
    members = _decoded(_object, raw, "object")
    if len(members) > ATTRIBUTES_MAX:
        raise CloudEventError(f"an event has at most {ATTRIBUTES_MAX} attributes")
    attributes: dict[str, Value] = {}
    data: bytes | None = None
    data_base64: bytes | None = None
    for name, member in members.items():
        if name == "data":
            data = bytes(member)
        elif name == "data_base64":
            data_base64 = bytes(member)
        else:
            value = _json_value(name, member)
            if value is not None:                           # null means that it is not set, JSON format §2.2
                attributes[name] = value
    content_type = attributes.pop("datacontenttype", None)
    if content_type is not None and not isinstance(content_type, str):
        raise CloudEventError("datacontenttype is a text")
    check_attributes(attributes, content_type)
    return _with_data(attributes, content_type, data, data_base64)


def parse_batch(raw: bytes, events_max: int) -> Iterator[CloudEvent | CloudEventError]:
    """A JSON array of events, one by one; a bad one among them stands as its error. Raises CloudEventError at once: no
    array, too many.
    """
    items = _decoded(_array, raw, "array")
    if len(items) > events_max:
        raise CloudEventError(f"a batch has at most {events_max} events")
    return map(_item, items)


def _item(item: msgspec.Raw) -> CloudEvent | CloudEventError:
    try:
        return parse_json(bytes(item))
    except CloudEventError as error:
        return error


def _decoded(decoder: msgspec.json.Decoder[Shape], raw: bytes, what: str) -> Shape:
    try:
        raw.decode()                                        # the decoder leaves the parts of a Raw unread
        return decoder.decode(raw)
    except UnicodeDecodeError:
        raise CloudEventError("the JSON is not UTF-8") from None
    except RecursionError:
        raise CloudEventError(DEPTH_MAX_TEXT) from None
    except msgspec.MsgspecError as error:
        raise CloudEventError(f"not a JSON {what}: {error}") from None


def build_json(event: CloudEvent) -> bytes:
    """One event in the JSON format, on one line."""
    members: dict[str, object] = dict(event.attributes)
    if event.content_type is not None:
        members["datacontenttype"] = event.content_type
    if event.data is not None:
        _add_data(members, event, event.data)
    return _encode(members)


def build_batch(events: Iterable[bytes]) -> bytes:
    """A batch of what build_json() made."""
    return b"[" + b",".join(events) + b"]"


def _json_value(name: str, member: msgspec.Raw) -> Value | None:
    raw = bytes(member)
    if len(raw) > TEXT_BYTES_MAX * 6:                       # \u00e9 is six bytes for one
        raise CloudEventError(f"{_shown(name)} is longer than {TEXT_BYTES_MAX} bytes")
    try:
        value = _any.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise CloudEventError(f"{_shown(name)} is a text, a number or a boolean") from None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise CloudEventError(f"{_shown(name)} is a text, a whole number or a boolean")


def _with_data(
    attributes: dict[str, Value], content_type: str | None, data: bytes | None, data_base64: bytes | None,
) -> CloudEvent:
    """Source: JSON format §3.1.1, and CloudEvents §3.1.1 for a datacontenttype that is left out."""
    if data == b"null":
        data = None
    if data_base64 is not None and data_base64 != b"null":
        if data is not None:
            raise CloudEventError("an event has data or data_base64, not both")
        return CloudEvent(attributes, content_type, _base64(data_base64))
    if data is None:
        return CloudEvent(attributes, content_type, None)
    try:
        value = _any.decode(data)
    except RecursionError:
        raise CloudEventError(DEPTH_MAX_TEXT) from None
    except msgspec.MsgspecError as error:
        raise CloudEventError(f"data: {error}") from None
    if content_type is None:
        return CloudEvent(attributes, "application/json", data)
    if is_json(content_type):
        return CloudEvent(attributes, content_type, data)
    if not isinstance(value, str):
        raise CloudEventError(f"data of type {_shown(content_type)} is a text, or bytes in data_base64")
    return CloudEvent(attributes, content_type, value.encode(), is_text=True)


def _base64(raw: bytes) -> bytes:
    try:
        text = _any.decode(raw)
        if not isinstance(text, str):
            raise ValueError
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise CloudEventError("data_base64 is base64 (RFC 4648 §4)") from None


def _add_data(members: dict[str, object], event: CloudEvent, data: bytes) -> None:
    if is_json(event.content_type) and _is_json_text(data):
        on_one_line = b"\n" in data or b"\r" in data
        members["data"] = msgspec.Raw(msgspec.json.format(data, indent=-1) if on_one_line else data)
        return
    if event.is_text or media_type(event.content_type).startswith("text/"):
        try:
            members["data"] = data.decode()
            return
        except UnicodeDecodeError:
            pass
    members["data_base64"] = base64.b64encode(data).decode("ascii")


def _is_json_text(data: bytes) -> bool:
    try:
        data.decode()
        return _any.decode(data) is not None                # null would read as "no data"
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return False


# -- HTTP binary mode ------------------------------------------------------------------------------------------------

def from_fields(fields: Iterable[tuple[str, str]], content_type: str | None, body: bytes) -> CloudEvent:
    """The event of an HTTP message in binary mode. fields: the ce-* ones, any case. Raises CloudEventError."""
    attributes: dict[str, Value] = {}
    for field, value in fields:
        name = field.lower()[len(HTTP_PREFIX):]
        if name in attributes:
            raise CloudEventError(f"ce-{_shown(name)} stands in the request more than once")
        if name == "datacontenttype":
            raise CloudEventError("in binary mode Content-Type is the datacontenttype")
        if len(attributes) >= ATTRIBUTES_MAX:
            raise CloudEventError(f"an event has at most {ATTRIBUTES_MAX} attributes")
        attributes[name] = _field_text(name, value)
    check_attributes(attributes, content_type)
    return CloudEvent(attributes, content_type, body if body else None)


def http_fields(event: CloudEvent) -> list[tuple[str, str]]:
    """The ce-* fields of an event for an HTTP message; Content-Type and body are content_type and data."""
    return [(HTTP_PREFIX + name, quote(value_text(value), safe=_HEADER_SAFE))
            for name, value in event.attributes.items()]


def _field_text(name: str, value: str) -> str:
    """Undo quoting, then one round of percent-encoding.                       Source: HTTP binding §3.1.3.2"""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if "%" not in value:
        return value                                        # what is not UTF-8 has surrogates, refused later
    head, *parts = value.split("%")
    try:
        decoded = bytearray(head.encode())
        for part in parts:
            code = part[:2]
            if len(code) != 2 or not code.isascii() or not code.isalnum():
                raise ValueError
            decoded.append(int(code, 16))
            decoded += part[2:].encode()
        return decoded.decode()
    except ValueError:
        raise CloudEventError(f"ce-{_shown(name)}: percent-encoding is broken, or it is not UTF-8") from None


# -- validation ------------------------------------------------------------------------------------------------------

def check_attributes(attributes: dict[str, Value], content_type: str | None) -> None:
    """Raise CloudEventError unless the attributes are those of a CloudEvent 1.0.           Source: CloudEvents §3"""
    version = attributes.get("specversion")
    if version != SPECVERSION:
        found = "missing" if version is None else f"{_shown(value_text(version))}, which is not spoken here"
        raise CloudEventError(f'specversion must be "1.0": it is {found}')
    for name, value in attributes.items():
        check_name(name)
        if isinstance(value, str):
            _check_text(name, value)
        elif not isinstance(value, bool) and not INTEGER_MIN <= value <= INTEGER_MAX:
            raise CloudEventError(f"{name} is a number from {INTEGER_MIN} to {INTEGER_MAX}")
    for name in REQUIRED:
        if not attributes.get(name):
            raise CloudEventError(f"{name} is missing or empty")
    for name, check in _CHECKS.items():
        value = attributes.get(name, "")
        if name in attributes and (not isinstance(value, str) or not check(value)):
            raise CloudEventError(f"{name} is {_EXPECTED[name]}")
    if content_type is not None and not _is_media_type(content_type):
        raise CloudEventError("datacontenttype is a media type such as application/json (RFC 2046)")


def check_name(name: str) -> None:
    """Raise CloudEventError unless an attribute may have this name.                     Source: CloudEvents §3.1"""
    if not is_name(name):
        raise CloudEventError(
            f"attribute {_shown(name)}: a name has 1 to {NAME_CHARS_MAX} of the characters a-z and 0-9; data is none")


def is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_CHARS_MAX and _NAME_CHARS.issuperset(name) and name != "data"


def is_text(value: str) -> bool:
    """True for a String of CloudEvents §3.2: no control characters, surrogates or noncharacters."""
    if value.isascii():
        return value.isprintable()
    return all(map(_is_char, value))


def value_text(value: Value) -> str:
    """The canonical text of a value.                                                     Source: CloudEvents §3.2"""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _is_char(char: str) -> bool:
    code = ord(char)
    return not (code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF
                or code & 0xFFFE == 0xFFFE)


def _check_text(name: str, value: str) -> None:
    if len(value) > TEXT_BYTES_MAX or len(value.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise CloudEventError(f"{name} is longer than {TEXT_BYTES_MAX} bytes")
    if not is_text(value):
        raise CloudEventError(f"{name} has a control character or something that is no character")


def _is_uri_reference(text: str) -> bool:
    if not text or not _URI_CHARS.issuperset(text):
        return False
    if any(len(part) < 2 or not set(part[:2]) <= set("0123456789abcdefABCDEF") for part in text.split("%")[1:]):
        return False
    try:
        urlsplit(text)
        return True
    except ValueError:
        return False


def _is_absolute_uri(text: str) -> bool:
    scheme, colon, rest = text.partition(":")
    return (bool(colon and rest) and scheme[:1].isalpha() and scheme.replace("+", "").replace("-", "").replace(
        ".", "").isalnum() and _is_uri_reference(text))


def _is_timestamp(text: str) -> bool:
    """RFC 3339 §5.6, with a zone."""
    if not 20 <= len(text) <= 40 or not text.isascii() or text[4:17:3].upper() != "--T::":
        return False
    plain = text[:17] + "59" + text[19:] if text[17:19] == "60" else text                  # a leap second
    try:
        return datetime.fromisoformat(plain.upper()).tzinfo is not None
    except ValueError:
        return False


def _is_media_type(text: str) -> bool:
    kind, slash, subtype = text.partition(";")[0].strip().partition("/")
    return (bool(slash and kind and subtype) and _TOKEN_CHARS.issuperset(kind) and _TOKEN_CHARS.issuperset(subtype)
            and is_text(text))


_CHECKS: dict[str, Callable[[str], bool]] = {
    "id": bool, "type": bool, "subject": bool, "source": _is_uri_reference, "dataschema": _is_absolute_uri,
    "time": _is_timestamp,
}
_EXPECTED = {
    "id": "a text", "type": "a text", "subject": "a text that is not empty", "source": "a URI reference (RFC 3986)",
    "dataschema": "an absolute URI (RFC 3986 §4.3)", "time": "an RFC 3339 time with a zone",
}


def _shown(text: str) -> str:
    """A part of what the client sent, for an error text."""
    return repr(text[:40])

