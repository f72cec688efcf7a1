"""passwords_need_tls: pika and proton log in by TLS only, and the mechanisms say so; on WebSockets, too."""
from __future__ import annotations

import os
import ssl
from importlib.util import find_spec

import pika
import pytest
from pika.exceptions import AMQPConnectionError
from websockets.sync.client import connect

from mesh.identity.users import hash_password
from tests.support.node import Node

if find_spec("proton") is None and os.environ.get("MESHGATE_REQUIRE_PEERS") != "1":
    pytest.skip("proton is not installed", allow_module_level=True)
from proton import ConnectionException, Message, SSLDomain
from proton.utils import BlockingConnection

SETTINGS = f'''
[amqp]
passwords_need_tls = true
[amqp10]
passwords_need_tls = true
[[users]]
name = "ana"
password_hash = "{hash_password("secret")}"
[[policies]]
allow = ["connect", "publish", "subscribe"]
to = ["*"]
topics = ["#", "$queue/#"]
'''
SASL_HEADER = b"AMQP\x03\x01\x00\x00"


@pytest.fixture(scope="module")
def node(tmp_path_factory, certificates):
    started = Node(tmp_path_factory.mktemp("amqp-tls"), extra=SETTINGS, listeners=("amqp", "http", "console"),
                   also_tls=("amqp", "http"), certificates=certificates).start()
    yield started
    started.kill9()


def tls(node):
    return ssl.create_default_context(cafile=str(node.certificates.ca))


def test_pika_logs_in_by_tls_only(node):
    login = pika.PlainCredentials("ana", "secret")
    options = pika.SSLOptions(tls(node), "localhost")
    with pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", node.ports["amqps"], credentials=login, ssl_options=options)) as connection:
        connection.channel().queue_declare("by-tls")
    with pytest.raises(AMQPConnectionError):
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", node.ports["amqp"], credentials=login))


def test_proton_logs_in_by_tls_only(node):
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(str(node.certificates.ca))
    domain.set_peer_authentication(SSLDomain.ANONYMOUS_PEER)
    connection = BlockingConnection(f"amqps://ana:secret@127.0.0.1:{node.ports['amqps']}", timeout=20,
                                    ssl_domain=domain, allowed_mechs="PLAIN")
    connection.create_sender("queue://by-tls-10").send(Message(body="x"))
    connection.close()
    with pytest.raises(ConnectionException):
        BlockingConnection(f"amqp://ana:secret@127.0.0.1:{node.ports['amqp']}", timeout=20, allowed_mechs="PLAIN",
                           allow_insecure_mechs=True)


def test_a_websocket_is_as_secure_as_what_carries_it(node):
    offered = {}
    for scheme, port, context in (("ws", "http", None), ("wss", "https", tls(node))):
        with connect(f"{scheme}://localhost:{node.ports[port]}/amqp", subprotocols=["amqp"], ssl=context) as socket:
            socket.send(SASL_HEADER)
            found = b""
            while b"EXTERNAL" not in found and b"XOAUTH2" not in found:
                found += socket.recv(10)
            offered[scheme] = found
    assert b"PLAIN" not in offered["ws"] and b"PLAIN" in offered["wss"]
