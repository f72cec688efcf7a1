"""mosquitto_pub and mosquitto_sub against the broker: versions 3.1, 3.1.1 and 5, TCP and TLS."""
from __future__ import annotations

import shutil
import subprocess
import threading

import pytest

from tests.conftest import require_peer
from tests.support.wait import wait_until

PUB, SUB = shutil.which("mosquitto_pub"), shutil.which("mosquitto_sub")
DEADLINE_S = 60
VERSIONS = ["mqttv311", "mqttv5"]


@pytest.fixture(autouse=True)
def clients():
    require_peer(PUB and SUB, "mosquitto-clients")


def target(broker, transport: str = "tcp") -> list[str]:
    if transport == "tls":
        return ["-h", "localhost", "-p", str(broker.mqtts[1]), "--cafile", str(broker.certificates.ca)]
    return ["-h", "127.0.0.1", "-p", str(broker.mqtt[1])]


def publish(broker, *arguments: str, version: str = "mqttv5", transport: str = "tcp", stdin: bytes | None = None):
    done = subprocess.run([PUB, *target(broker, transport), "-V", version, *arguments], input=stdin,
                          capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done


class Subscriber:
    """mosquitto_sub in the background; entered when its SUBACK has come (its -d output says so)."""

    def __init__(self, broker, *arguments: str, version: str = "mqttv5", transport: str = "tcp") -> None:
        self.command = [SUB, *target(broker, transport), "-V", version, "-d", *arguments]
        self.lines: list[str] = []
        self.ready = threading.Event()

    def _read(self) -> None:
        for raw in self.process.stdout:
            line = raw.decode().rstrip("\n")
            self.lines.append(line)
            if line.startswith("Subscribed"):
                self.ready.set()
        self.ready.set()        # it ended: with a kept session, -C may be reached before SUBACK

    def __enter__(self) -> Subscriber:
        self.process = subprocess.Popen(["stdbuf", "-oL", *self.command], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        assert self.ready.wait(DEADLINE_S), f"no SUBACK: {self.lines}"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join(DEADLINE_S)

    def finish(self) -> list[str]:
        """Wait until it ends by itself (-C count) and return what it printed, without its debug lines."""
        assert self.process.wait(DEADLINE_S) == 0, self.lines
        self.thread.join(DEADLINE_S)
        return [line for line in self.lines if not line.startswith(("Client ", "Subscribed"))]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_and_subscribe(broker, topic, version, transport, qos):
    with Subscriber(broker, "-t", topic, "-q", str(qos), "-C", "3", "-F", "%q %r %t %p", version=version,
                    transport=transport) as subscriber:
        publish(broker, "-t", topic, "-q", str(qos), "-l", version=version, transport=transport,
                stdin=b"one\ntwo\nthree\n")
        assert subscriber.finish() == [f"{qos} 0 {topic} {text}" for text in ("one", "two", "three")]


def test_the_old_protocol_3_1_is_refused_in_its_own_words(broker, topic):
    done = subprocess.run([PUB, *target(broker), "-V", "mqttv31", "-t", topic, "-m", "x"], capture_output=True,
                          timeout=DEADLINE_S, check=False)
    assert done.returncode != 0 and b"unacceptable protocol version" in done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_retained(broker, topic, version):
    publish(broker, "-t", topic, "-m", "kept", "-r", "-q", "1", version=version)
    with Subscriber(broker, "-t", topic, "-C", "1", "-F", "%r %p", version=version) as subscriber:
        assert subscriber.finish() == ["1 kept"]
    publish(broker, "-t", topic, "-r", "-n", "-q", "1", version=version)


@pytest.mark.parametrize("version", VERSIONS)
def test_will(broker, topic, version):
    with Subscriber(broker, "-t", topic, "-C", "1", version=version) as watcher:
        with Subscriber(broker, "-t", topic + "/x", "--will-topic", topic, "--will-payload", "gone", "--will-qos", "1",
                        version=version):
            pass        # killed on leaving
        assert watcher.finish() == ["gone"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_persistent_session_gets_what_it_missed(broker, unique, topic, version):
    session = ["-i", unique(), "-c", "-q", "1", "-t", topic]
    if version == "mqttv5":
        session += ["-x", "60"]
    with Subscriber(broker, *session, "-E", version=version) as subscriber:
        assert subscriber.finish() == []
    publish(broker, "-t", topic, "-q", "1", "-l", version=version, stdin=b"1\n2\n3\n")
    with Subscriber(broker, *session, "-C", "3", version=version) as subscriber:
        assert subscriber.finish() == ["1", "2", "3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_shared_subscription(broker, unique, topic, version):
    group = f"$share/{unique('g')}/{topic}"
    with Subscriber(broker, "-t", group, "-q", "1", version=version) as one, \
            Subscriber(broker, "-t", group, "-q", "1", version=version) as two, \
            Subscriber(broker, "-t", topic, "-q", "1", "-C", "20", version=version) as plain:
        publish(broker, "-t", topic, "-q", "1", "-l", version=version,
                stdin=b"".join(b"%d\n" % number for number in range(20)))
        assert plain.finish() == [str(number) for number in range(20)]

        def got(subscriber: Subscriber) -> list[str]:
            return [line for line in list(subscriber.lines) if line.isdigit()]

        wait_until(lambda: len(got(one)) + len(got(two)) >= 20, "the group has everything")
        assert sorted(got(one) + got(two), key=int) == [str(number) for number in range(20)]
        assert got(one) and got(two)


def test_version_5_properties(broker, topic):
    with Subscriber(broker, "-t", topic, "-q", "1", "-C", "1", "-F", "%p|%C|%R|%D|%P") as subscriber:
        publish(broker, "-t", topic, "-q", "1", "-m", "x", "-D", "publish", "content-type", "text/plain",
                "-D", "publish", "response-topic", "re/ply", "-D", "publish", "correlation-data", "42",
                "-D", "publish", "user-property", "b", "2", "-D", "publish", "user-property", "a", "1")
        assert subscriber.finish() == ["x|text/plain|re/ply|42|b:2 a:1"]


def test_a_file_of_half_a_megabyte(broker, topic, tmp_path):
    data = bytes(range(256)) * 2000
    (tmp_path / "in").write_bytes(data)
    with Subscriber(broker, "-t", topic, "-q", "1", "-C", "1", "-F", "%l") as subscriber:
        publish(broker, "-t", topic, "-q", "1", "-f", str(tmp_path / "in"))
        assert subscriber.finish() == [str(len(data))]
