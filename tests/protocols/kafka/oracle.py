"""Random messages of Kafka's APIs, made and written by kio, whose schemas share nothing with the project's."""
from __future__ import annotations

import dataclasses
import datetime
import io
import types
import typing
import uuid

import kio.index
from kio.serial import entity_writer
from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field

TEXTS = ("", "a", "orders.eu", "größer", "x" * 200)
SIZES = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}


def schema(key: int, version: int, *, request: bool):
    """kio's class of a message; None when it does not have it."""
    load = kio.index.load_request_schema if request else kio.index.load_response_schema
    try:
        return load(key, version)
    except kio.index.UnknownEntity:
        return None


def is_nullable(field) -> bool:
    inner = field.type
    if typing.get_origin(inner) is tuple:
        inner = typing.get_args(inner)[0]
    return typing.get_origin(inner) in (types.UnionType, typing.Union)


def number(rng, bits: int) -> int:
    return rng.choice((0, 1, -1, rng.randrange(-(1 << bits), 1 << bits), (1 << bits) - 1))


def primitive(rng, kind: str):
    if kind in SIZES:
        return number(rng, SIZES[kind])
    return {
        "bool": lambda: rng.random() < 0.5,
        "float64": lambda: rng.random() * 1e6,
        "string": lambda: rng.choice(TEXTS),
        "bytes": lambda: rng.randbytes(rng.randrange(300)),
        "records": lambda: rng.randbytes(rng.randrange(300)),
        "uuid": lambda: uuid.UUID(bytes=rng.randbytes(16)),
        "error_code": lambda: rng.choice(list(_error_codes())),
        "timedelta_i32": lambda: datetime.timedelta(milliseconds=number(rng, 31)),
        "timedelta_i64": lambda: datetime.timedelta(milliseconds=number(rng, 40)),
        "datetime_i64": lambda: datetime.datetime.fromtimestamp(rng.randrange(1 << 40) / 1000, datetime.UTC).replace(
            microsecond=rng.randrange(1000) * 1000),
    }[kind]()


def _error_codes():
    from kio.schema.errors import ErrorCode

    return ErrorCode


def make(rng, cls):
    """An instance with random values; nulls where they are allowed, and tagged fields now and then."""
    values = {}
    for field in dataclasses.fields(cls):
        tagged = "tag" in field.metadata
        if tagged and rng.random() < 0.5 and field.default is not dataclasses.MISSING:
            continue
        kind = classify_field(field)
        if is_nullable(field) and not tagged and rng.random() < 0.25:
            values[field.name] = None
        elif isinstance(kind, EntityTupleField):
            values[field.name] = tuple(make(rng, kind.type_) for _ in range(rng.randrange(3)))
        elif isinstance(kind, EntityField):
            values[field.name] = make(rng, kind.type_)
        elif isinstance(kind, PrimitiveTupleField):
            values[field.name] = tuple(
                primitive(rng, field.metadata["kafka_type"]) for _ in range(rng.randrange(4)))
        else:
            values[field.name] = primitive(rng, field.metadata["kafka_type"])
    return cls(**values)


def written(message) -> bytes:
    with io.BytesIO() as out:
        entity_writer(type(message))(out, message)
        return out.getvalue()
