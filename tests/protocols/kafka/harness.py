"""Kafka clients and the server wired in memory, on a real router and a real log; the loop is turned by hand."""
from __future__ import annotations

import itertools

from protocols.authentication.scram_passwords import ScramPasswords
from protocols.kafka.api import find_apis
from protocols.kafka.codec.header import request_frame
from protocols.kafka.server import KafkaServer
from protocols.kafka.settings import KafkaSettings
from protocols.server import Parts
from routing.log.records.batch import build_batch, varint
from routing.settings import StreamSettings
from tests.protocols.mqtt.harness import Channel, Users
from tests.support.routing import Desk

APIS = {api.schema.name: api.schema for api in find_apis().values()}
ORDERS = StreamSettings("orders", ("orders/#",), partitions=2, topic="orders")


def batch(*values, key=b"k", sequence=-1, producer=-1, now_ms=1_700_000_000_000):
    """A record batch as a producer sends it."""
    records = []
    for index, value in enumerate(values):
        body = b"\0" + varint(0) + varint(index)
        body += varint(-1) if key is None else varint(len(key)) + key
        body += varint(-1) if value is None else varint(len(value)) + value
        body += varint(0)
        records.append(varint(len(body)) + body)
    return build_batch(0, len(values) - 1, now_ms, now_ms, len(values), b"".join(records), first_in_group=False,
                       producer=(producer, 0 if producer >= 0 else -1, sequence))


class KafkaUsers(Users):
    @property
    def open(self):
        return self.passwords is None


class Broker(Desk):
    """The server on a desk. users: see tests/protocols/mqtt/harness.py."""

    def __init__(self, path, settings=None, streams=(ORDERS,), **options):
        super().__init__(path, [StreamSettings("events", ("#",)), *streams], **options)
        self.users = KafkaUsers()
        self.server = KafkaServer(
            Parts(router=self.router, authenticator=self.users,
                  scram=ScramPasswords(self.router, self.users), replies=None, redrives=None, node_name="node",
                  version="1", listening=lambda name: []), settings or KafkaSettings())
        self.numbers = itertools.count(1)

    def connect(self):
        return Client(self)

    def tick(self, seconds=0.0):
        super().tick(seconds)
        self.server.tick(self.now_s)
        self.run()


class Client:
    """One connection. ask() waits for the answer; send() does not."""

    def __init__(self, broker, client_id="test"):
        self.broker = broker
        self.client_id = client_id
        self.channel = Channel(broker, next(broker.numbers))
        self.channel.local_address = "127.0.0.1:9092"
        self.channel.handler = broker.server.connection(self.channel, broker.now_s)
        self.numbers = itertools.count(1)
        self.waiting = []

    def frame(self, name, version, **values):
        schema, body = APIS[name], []
        schema.encode_request(body, values, version)
        number = next(self.numbers)
        self.waiting.append((number, schema, version))
        return request_frame(schema.key, version, number, self.client_id, body, flexible=schema.is_flexible(version))

    def raw(self, data):
        self.channel.handler.receive_data(data, self.broker.now_s)
        self.broker.run()

    def send(self, name, version, **values):
        self.raw(self.frame(name, version, **values))

    def answers(self):
        """Those that have come, in the order of the requests."""
        found, data = [], bytes(self.channel.sent)
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
            end = 4 + int.from_bytes(data[:4], "big")
            number, schema, version = self.waiting.pop(0)
            assert int.from_bytes(data[4:8], "big") == number
            tags = schema.key != 18 and schema.is_flexible(version)
            found.append(schema.decode_response(data[:end], 8 + tags, version))
            data = data[end:]
        self.channel.sent = bytearray(data)
        return found

    def ask(self, name, version, **values):
        self.send(name, version, **values)
        answer, = self.answers()
        return answer

    @property
    def closed(self):
        return self.channel.closed

    def produce(self, *values, topic="orders", partition=0, acks=-1, version=9, records=None, **options):
        data = batch(*values, **options) if records is None else records
        return {"acks": acks, "timeout_ms": 1_000, "topic_data": [
            {"name": topic, "partition_data": [{"index": partition, "records": data}]}]}

    def fetch(self, offset=0, topic="orders", partition=0, **options):
        return {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20, "topics": [
            {"topic": topic, "partitions": [
                {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20}]}], **options}
