"""Logins of real AMQP 1.0 clients: SCRAM and a token by Qpid JMS, a client certificate by proton."""
from __future__ import annotations

import shutil

import pytest
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from mesh.identity.apikeys import hash_key, make_key
from mesh.identity.users import hash_password
from tests.conftest import require_peer
from tests.interop.peer_process import PeerProcess
from tests.interop.test_qpid_jms import JARS, SOURCE
from tests.support.node import Node
from tests.support.wait import DEADLINE_S

proton = pytest.importorskip("proton")
utils = pytest.importorskip("proton.utils")

KEY = make_key()
CONFIG = f"""
[[users]]
name = "ana"
password_hash = "{hash_password("another password")}"
[[users]]
name = "root"
password_hash = "{hash_password("secret")}"
[[api_keys]]
name = "meter"
user = "ana"
key_hash = "{hash_key(KEY)}"
[[policies]]
allow = ["connect", "publish", "subscribe"]
to = ["user:ana", "user:test client"]
topics = ["#", "$queue/#"]
[[policies]]
allow = ["connect", "manage"]
to = ["user:root"]
"""


class ByCertificate(Node):
    """Its second port for AMQP wants a client certificate."""

    def _listener_text(self, port, *, secure):
        text = super()._listener_text(port, secure=secure)
        if port != self.ports.get("amqps"):
            return text
        return text.replace("tls = {", f'tls = {{ client_ca = "{self.certificates.ca}",')


@pytest.fixture(scope="module")
def node(tmp_path_factory, certificates):
    started = ByCertificate(tmp_path_factory.mktemp("amqp10-logins"), CONFIG,
                            listeners=("amqp", "http", "console", "kafka"), tls=("kafka",), also_tls=("amqp",),
                            certificates=certificates).start()
    yield started
    assert "Traceback" not in started.process.log_text(), started.process.log_tail(60)
    started.kill9()


def jms(node, mechanism, password):
    require_peer(shutil.which("javac"), "a JDK")
    require_peer(any(JARS.glob("qpid-jms-client-*.jar")), "Qpid JMS (make peers)")
    return PeerProcess(["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*",
                        str(SOURCE), f"amqp://127.0.0.1:{node.ports['amqp']}?jms.username=ana&jms.password={password}"
                        f"&amqp.saslMechanisms={mechanism}"])


def test_qpid_jms_logs_in_by_scram_with_the_password_that_a_kafka_tool_has_set(node):
    client = AdminClient({
        "bootstrap.servers": f"localhost:{node.ports['kafka']}", "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(node.certificates.ca), "sasl.mechanism": "PLAIN", "sasl.username": "root",
        "sasl.password": "secret"})
    change = UserScramCredentialUpsertion(
        "ana", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"open sesame")
    for future in client.alter_user_scram_credentials([change]).values():
        future.result(DEADLINE_S)
    peer = jms(node, "SCRAM-SHA-512", "open%20sesame")
    try:
        peer.run("kinds")
    finally:
        peer.kill()


def test_qpid_jms_logs_in_with_an_api_key_as_xoauth2_token(node):
    peer = jms(node, "XOAUTH2", KEY)
    try:
        peer.run("kinds")
    finally:
        peer.kill()


def test_proton_logs_in_by_its_certificate(node):
    domain = proton.SSLDomain(proton.SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(str(node.certificates.ca))
    domain.set_peer_authentication(proton.SSLDomain.VERIFY_PEER)
    domain.set_credentials(str(node.certificates.client_cert), str(node.certificates.client_key), None)
    connection = utils.BlockingConnection(
        f"amqps://localhost:{node.ports['amqps']}", ssl_domain=domain, timeout=20, allowed_mechs="EXTERNAL")
    connection.create_sender("queue://mine").send(proton.Message(body="x", user_id=b"test client"))
    receiver = connection.create_receiver("queue://mine")
    assert receiver.receive(timeout=20).user_id == b"test client"
    receiver.accept()
    connection.close()


def test_without_a_certificate_external_is_not_offered(node):
    with pytest.raises(proton.ConnectionException):
        utils.BlockingConnection(f"amqp://127.0.0.1:{node.ports['amqp']}", timeout=20, allowed_mechs="EXTERNAL")
