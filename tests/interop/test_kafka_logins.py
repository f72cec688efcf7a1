"""Logins of real Kafka clients, over TLS: SCRAM (its passwords set by librdkafka, kafka-python and Apache's
kafka-configs), PLAIN, OAUTHBEARER with an API key, client certificates.
"""
from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from aiokafka import AIOKafkaProducer
from argon2 import PasswordHasher
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from kafka import KafkaProducer

from mesh.identity.apikeys import hash_key, make_key
from tests.interop.kafka_node import DEADLINE_S, java
from tests.mesh.identity.tokens import jwk, jwks, rsa_key, token
from tests.support.admin import Admin, basic
from tests.support.node import Node
from tests.support.wait import wait_until

KEY = make_key()
CONFIG = """
[[users]]
name = "ana"
[[users]]
name = "ben"
[[users]]
name = "eve"
[[users]]
name = "kim"
[[users]]
name = "root"
password_hash = "{hash}"
[[api_keys]]
name = "meter"
user = "ana"
key_hash = "{key}"
[[jwt]]
issuer = "https://login.example"
audience = ["meshgate"]
jwks = "file:{jwks}"
[[policies]]
allow = ["connect", "publish", "subscribe"]
to = ["user:ana", "user:ben", "user:eve", "user:kim", "user:zoe", "user:max", "user:test client"]
topics = ["orders/#"]
[[policies]]
allow = ["connect", "publish", "subscribe", "manage"]
to = ["user:root"]
"""


class TwoDoors(Node):
    """Its second port for Kafka wants a client certificate."""

    def _listener_text(self, port, *, secure):
        text = super()._listener_text(port, secure=secure)
        return text.replace("tls = {", f'tls = {{ client_ca = "{self.certificates.ca}",') \
            if port == self.ports["kafkas"] else text


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, certificates):
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_bytes(jwks(jwk(rsa_key(), "k1")))
    config = CONFIG.format(hash=hasher.hash("secret"), key=hash_key(KEY), jwks=keys)
    node = TwoDoors(tmp_path_factory.mktemp("guarded"), config, listeners=("http", "console", "kafka"),
                    tls=("kafka",), also_tls=("kafka",), certificates=certificates).start()
    yield node
    assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)
    node.process.kill9()


def address(node):
    return f"localhost:{node.ports['kafka']}"


def over_tls(node, **options):
    return {"bootstrap.servers": address(node), "ssl.ca.location": str(node.certificates.ca), **{
        name.replace("_", "."): value for name, value in {"security_protocol": "SASL_SSL", **options}.items()}}


def login(mechanism, user, password):
    return {"sasl_mechanism": mechanism, "sasl_username": user, "sasl_password": password}


def admin(node):
    return AdminClient(over_tls(node, **login("PLAIN", "root", "secret")))


def set_password(node, user, mechanism, password, iterations=4096):
    kind = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}[mechanism]
    change = UserScramCredentialUpsertion(user, ScramCredentialInfo(kind, iterations), password.encode())
    client = admin(node)
    for future in client.alter_user_scram_credentials([change]).values():
        future.result(DEADLINE_S)


def may_produce(node, timeout_ms=10_000, topic="orders", **options):
    """Whether a message is acked."""
    acked = []
    producer = Producer({**over_tls(node, **options), "message.timeout.ms": timeout_ms})
    producer.produce(topic, b"x", on_delivery=lambda error, message: acked.append(error is None))
    producer.flush(DEADLINE_S)
    return acked == [True]


def is_refused(node, **options):
    """It tries again and again, as it does: the user is locked out then, so each test has one of its own."""
    return not may_produce(node, 1_500, **options)


@pytest.mark.parametrize(("mechanism", "user"), [("SCRAM-SHA-256", "ana"), ("SCRAM-SHA-512", "ben")])
def test_librdkafka_sets_a_scram_password_and_logs_in_with_it(guarded, mechanism, user):
    set_password(guarded, user, mechanism, "open,sesame=é", 5_000)
    assert may_produce(guarded, **login(mechanism, user, "open,sesame=é"))
    client = admin(guarded)
    found = client.describe_user_scram_credentials([user])[user].result(DEADLINE_S)
    assert [(info.mechanism, info.iterations) for info in found.scram_credential_infos] == [
        (getattr(ScramMechanism, mechanism.replace("-", "_")), 5_000)]
    assert is_refused(guarded, **login(mechanism, user, "open,sesame"))
    assert is_refused(guarded, **login(mechanism, "nobody", "open,sesame=é"))


def test_a_scram_password_outlives_the_node_and_can_be_changed_and_deleted(guarded):
    set_password(guarded, "eve", "SCRAM-SHA-512", "first")
    assert may_produce(guarded, **login("SCRAM-SHA-512", "eve", "first"))
    guarded.kill9()
    guarded.start()
    assert may_produce(guarded, **login("SCRAM-SHA-512", "eve", "first"))
    set_password(guarded, "eve", "SCRAM-SHA-512", "second")
    assert may_produce(guarded, **login("SCRAM-SHA-512", "eve", "second"))
    client = admin(guarded)
    client.alter_user_scram_credentials([UserScramCredentialDeletion("eve", ScramMechanism.SCRAM_SHA_512)])[
        "eve"].result(DEADLINE_S)
    assert is_refused(guarded, **login("SCRAM-SHA-512", "eve", "second"))


def test_scram_passwords_are_for_known_users_and_take_the_right_to_manage(guarded):
    with pytest.raises(KafkaException, match="does not know the user"):
        set_password(guarded, "stranger", "SCRAM-SHA-256", "x")
    set_password(guarded, "kim", "SCRAM-SHA-256", "own")
    mine = AdminClient(over_tls(guarded, **login("SCRAM-SHA-256", "kim", "own")))
    change = UserScramCredentialUpsertion("ana", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"mine")
    with pytest.raises(KafkaException, match="right to manage"):
        mine.alter_user_scram_credentials([change])["ana"].result(DEADLINE_S)


def test_scram_passwords_are_in_the_audit_trail_before_they_are_set_and_without_what_is_kept_of_them(guarded):
    set_password(guarded, "kim", "SCRAM-SHA-512", "written down")
    mine = AdminClient(over_tls(guarded, **login("SCRAM-SHA-512", "kim", "written down")))
    change = UserScramCredentialUpsertion("ana", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"mine")
    with pytest.raises(KafkaException, match="right to manage"):
        mine.alter_user_scram_credentials([change])["ana"].result(DEADLINE_S)
    root = Admin(guarded, basic("root", "secret"))
    wait_until(lambda: any(row["act"] == "kafka.scram.alter" and row["outcome"] == "denied" and row["user"] == "kim"
                           and row["reason"].startswith("ana:") for row in root.rows("audit")), "the denial is there")
    row = next(row for row in root.rows("audit") if row["act"] == "kafka.scram.alter" and row["outcome"] == "done"
               and row["after"] == {"kim": ["SCRAM-SHA-512 set"]})
    assert (row["user"], row["target"], row["via"]) == ("root", "kim", "kafka")


@pytest.mark.parametrize(("user", "way"), [("zoe", "another password"), ("max", "deleted and made anew")])
def test_a_scram_password_does_not_outlive_its_user(guarded, user, way):
    root = Admin(guarded, basic("root", "secret"))
    name = f"users/{user}"
    version = root.must_put(name, password="the first one")["version"]
    set_password(guarded, user, "SCRAM-SHA-256", "by scram")
    version = root.must_put(name, version, description="the same password")["version"]
    assert may_produce(guarded, **login("SCRAM-SHA-256", user, "by scram"))
    if way != "another password":
        assert root.ask("DELETE", name, {"version": version}).status == 200
        version = ""
    root.must_put(name, version, password="the second one")
    assert may_produce(guarded, **login("PLAIN", user, "the second one"))
    assert is_refused(guarded, **login("SCRAM-SHA-256", user, "by scram"))
    with pytest.raises(KafkaException):
        admin(guarded).describe_user_scram_credentials([user])[user].result(DEADLINE_S)


def test_apaches_tool_sets_a_scram_password_and_kafka_python_and_aiokafka_use_it(guarded, tmp_path):
    settings = tmp_path / "admin.properties"
    settings.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={guarded.certificates.ca}\n"
        "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=root "
        "password=secret;\n")
    done = java("org.apache.kafka.tools.ConfigCommand", "--bootstrap-server", address(guarded), "--command-config",
                str(settings), "--alter", "--add-config", "SCRAM-SHA-256=[iterations=8192,password=tool]",
                "--entity-type", "users", "--entity-name", "kim")
    assert done.returncode == 0, done.stdout + done.stderr
    common = {"bootstrap_servers": address(guarded), "security_protocol": "SASL_SSL",
              "sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "kim", "sasl_plain_password": "tool"}
    producer = KafkaProducer(ssl_cafile=str(guarded.certificates.ca), **common)
    producer.send("orders", b"x").get(DEADLINE_S)
    producer.close()

    async def produce():
        context = ssl.create_default_context(cafile=str(guarded.certificates.ca))
        async with AIOKafkaProducer(ssl_context=context, **common) as producer:
            await producer.send_and_wait("orders", b"x")

    asyncio.run(produce())


def test_an_api_key_is_an_oauth_token(guarded):
    def token(_):
        return KEY, time.time() + 3600

    client = {**over_tls(guarded, sasl_mechanism="OAUTHBEARER"), "oauth_cb": token, "message.timeout.ms": 10_000}
    acked = []
    producer = Producer(client)
    producer.produce("orders", b"x", on_delivery=lambda error, message: acked.append(error))
    assert producer.flush(DEADLINE_S) == 0 and acked == [None]


def test_a_connection_goes_on_with_a_newer_token(guarded):
    """KIP-368: librdkafka logs in again on the same connection before its token ends."""
    made = []

    def fresh(_):
        ends_s = int(time.time()) + 5
        made.append(ends_s)
        return token(sub="ana", exp=ends_s).decode(), float(ends_s)

    def connections():
        rows = Admin(guarded, basic("root", "secret")).rows("clients")
        return {row["address"] for row in rows if row["client_id"] == "renews"}

    producer = Producer({**over_tls(guarded, sasl_mechanism="OAUTHBEARER"), "oauth_cb": fresh, "log_level": 0,
                         "client.id": "renews", "message.timeout.ms": 3_000})

    def produces():
        acked = []
        producer.produce("orders", b"x", on_delivery=lambda error, message: acked.append(error))
        producer.flush(15)
        return acked == [None]

    assert produces()
    opened, begun_s = connections(), time.monotonic()
    assert opened
    while time.monotonic() - begun_s < 7:               # longer than the first token holds
        assert produces()
        time.sleep(0.2)
    assert len(made) >= 2 and connections() & opened, "it has logged in again where it was"


def test_a_client_certificate_is_a_login(guarded):
    files = {"ssl_certificate_location": str(guarded.certificates.client_cert),
             "ssl_key_location": str(guarded.certificates.client_key)}
    mutual = {"security_protocol": "SSL", "bootstrap_servers": f"localhost:{guarded.ports['kafkas']}"}
    assert may_produce(guarded, **mutual, **files)
    assert is_refused(guarded, **mutual)
    assert is_refused(guarded, security_protocol="SSL")                # nor is nobody let in by the other door
