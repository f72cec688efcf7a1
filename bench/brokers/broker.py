"""The brokers under test: start one in a temporary directory on loopback, read its CPU and memory, stop it.

Called by __main__.py and the rows. Everything that is started runs in its own session; stopping signals that process
group and nothing else. Each class says in `configuration` what is different from the broker's defaults; it is printed.
"""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench import PEERS, ROOT
from bench.brokers import processes
from bench.load.packets import DISCONNECT, connect

START_TIMEOUT_S = 60.0
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/rabbitmq/bin")
_BUILT = (str(PEERS / "nats" / "bin"), str(PEERS / "cargo" / "bin"))        # by `make peers`, `make bench`


def find_program(name: str) -> str | None:
    """What was built here goes before what the system has, which is older."""
    return shutil.which(name, path=os.pathsep.join((*_BUILT, os.environ.get("PATH", ""), *_SBIN)))


def version_of(name: str) -> str:
    """The last word of what a program says to --version; "" when it is not there."""
    program = find_program(name)
    if program is None:
        return ""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).split()[-1].lstrip("v") if (said.stdout or said.stderr).split() else ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Broker:
    """One broker process. port is its MQTT port; http_port is 0 when it has no REST of ours."""

    name = ""
    configuration = ""
    has_v5 = False
    has_log = False
    has_http = False                    # events can be published over HTTP
    has_link = False                    # two of them can be linked, see pairs.py
    has_amqp = False                    # AMQP 0-9-1, on amqp_port
    has_amqp10 = False                  # AMQP 1.0, on amqp_port
    has_kafka = False                   # on kafka_port
    only_for = ""                       # rows that need this: it is started for no others

    def __init__(self, root: Path) -> None:
        self.root = root / self.name
        self.port = free_port()
        self.http_port = 0
        self.console_port = 0
        self.amqp_port = 0
        self.kafka_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._pids: list[int] = []

    @classmethod
    def installed(cls) -> bool:
        raise NotImplementedError

    def command(self) -> list[str]:
        """Write the configuration files and return the command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with open(self.root / "output.txt", "ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            env=self.environment(), cwd=self.root, start_new_session=True)
        self._wait_until_ready()
        self._pids = processes.tree(self.process.pid)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.05)                                    # polling a condition, bounded by the deadline
        tail = (self.root / "output.txt").read_bytes()[-2000:].decode(errors="replace")
        self.stop()
        raise RuntimeError(f"{self.name} did not answer on port {self.port}:\n{tail}")

    def _answers(self) -> bool:
        """A broker is ready when it answers a CONNECT with CONNACK 0, not when its port is open."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                sock.sendall(connect("bench-ready"))
                answer = sock.recv(4)
                sock.sendall(DISCONNECT)
                return len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0
        except OSError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        for signal_number, patience_s in ((how, 20.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(self.process.pid, signal_number)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)         # children that outlived their parent
        except ProcessLookupError:
            pass
        self.process = None

    def amqp10_address(self, queue: str) -> str:
        return queue

    def cpu_s(self) -> float:
        return processes.cpu_s(self._pids)

    def rss_bytes(self) -> int:
        return processes.rss_bytes(self._pids)


class Meshgate(Broker):
    """The node under test, all defaults: stream `events` captures #, fsync, policy, metrics and console on."""

    name = "meshgate"
    configuration = "defaults: stream events captures #, durability fsync, policy on, console and metrics on"
    has_v5 = True
    has_log = True
    has_http = True
    has_link = True
    has_amqp = True
    has_amqp10 = True
    has_kafka = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.http_port = free_port()
        self.console_port = free_port()
        self.amqp_port = free_port()
        self.kafka_port = free_port()

    @classmethod
    def installed(cls) -> bool:
        """True when the command line can be imported; a node that then fails to start is reported, not hidden."""
        check = [sys.executable, "-c", "import mesh.cli"]
        return subprocess.run(check, cwd=ROOT, capture_output=True, check=False).returncode == 0

    def command(self) -> list[str]:
        config = self.root / "meshgate.toml"
        config.write_text(
            f'[node]\nname = "bench"\ndata = "{self.root}/data"\n\n[listeners]\n'
            f'mqtt = {{ bind = "127.0.0.1:{self.port}" }}\nhttp = {{ bind = "127.0.0.1:{self.http_port}" }}\n'
            f'console = {{ bind = "127.0.0.1:{self.console_port}" }}\n'
            f'amqp = {{ bind = "127.0.0.1:{self.amqp_port}" }}\n'
            f'kafka = {{ bind = "127.0.0.1:{self.kafka_port}" }}\n')
        start = "import sys; from mesh.cli import main; sys.exit(main())"
        return [sys.executable, "-c", start, "up", "--config", str(config)]

    def environment(self) -> dict[str, str]:
        """As it is installed: what is imported is compiled once, not at each start."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
            "PYTHONPATH": str(ROOT)}


class Mosquitto(Broker):
    name = "mosquitto"
    configuration = ("persistence off (default), max_inflight_messages 65535, max_queued_messages and "
                     "bytes unlimited")
    has_v5 = True
    has_link = True

    @classmethod
    def installed(cls) -> bool:
        return find_program("mosquitto") is not None

    def command(self) -> list[str]:
        config = self.root / "mosquitto.conf"
        user = "user root\n" if os.getuid() == 0 else ""       # else root drops to a user without rights here
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n{user}"
                          "max_inflight_messages 65535\nmax_queued_messages 0\nmax_queued_bytes 0\n"
                          "log_type error\n")
        return [find_program("mosquitto") or "mosquitto", "-c", str(config)]


class Nats(Broker):
    name = "nats"
    has_link = True
    configuration = "JetStream on disk (its fsync is every 2 minutes), mqtt max_ack_pending 65535"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.configuration = f"{version_of('nats-server')}; {self.configuration}"

    @classmethod
    def installed(cls) -> bool:
        return find_program("nats-server") is not None

    def command(self) -> list[str]:
        config = self.root / "nats.conf"
        config.write_text(f'listen: "127.0.0.1:{free_port()}"\nserver_name: bench\n'
                          f'jetstream {{ store_dir: "{self.root}/js", max_file_store: 8GB, max_memory_store: 1GB }}\n'
                          f'mqtt {{ listen: "127.0.0.1:{self.port}", max_ack_pending: 65535, ack_wait: "60s" }}\n')
        return [find_program("nats-server") or "nats-server", "-c", str(config)]


class Rumqttd(Broker):
    """The broker of rumqtt, in Rust: all in memory, and no word to a client goes by a disk."""

    name = "rumqttd"
    configuration = "in memory only, 10 segments of 100 MiB, max_inflight_count 65535"

    @classmethod
    def installed(cls) -> bool:
        return find_program("rumqttd") is not None

    def command(self) -> list[str]:
        config = self.root / "rumqttd.toml"
        config.write_text(
            "id = 0\n[router]\nid = 0\nmax_connections = 10010\nmax_outgoing_packet_count = 200\n"
            "max_segment_size = 104857600\nmax_segment_count = 10\n"
            f'[v4.1]\nname = "v4-1"\nlisten = "127.0.0.1:{self.port}"\nnext_connection_delay_ms = 1\n'
            "[v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n"
            "max_inflight_count = 65535\ndynamic_filters = true\n")
        return [find_program("rumqttd") or "rumqttd", "-c", str(config), "-q"]


class RabbitMq(Broker):
    name = "rabbitmq"
    has_http = True
    has_amqp = True
    configuration = "mqtt plugin, prefetch 65535, anonymous user guest, classic queues, schedulers without busy wait"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.amqp_port = free_port()
        self._epmd_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    @classmethod
    def installed(cls) -> bool:
        return find_program("rabbitmq-server") is not None and find_program("epmd") is not None

    def command(self) -> list[str]:
        (self.root / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        (self.root / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "mqtt.allow_anonymous = true\nmqtt.default_user = guest\nmqtt.default_pass = guest\n"
            "mqtt.prefetch = 65535\nmqtt.tcp_listen_options.nodelay = true\nloopback_users.guest = true\n"
            "vm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 100MB\n")
        cookie = self.root / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(os.urandom(12).hex())
            cookie.chmod(0o400)
        # the name server in the foreground and ours alone: a daemon would outlive the run
        epmd = find_program("epmd") or "epmd"
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._epmd = subprocess.Popen([epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                                      start_new_session=True, **quiet)
        direct = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the wrapper in sbin insists on changing the user
        return [str(direct) if direct.exists() else find_program("rabbitmq-server") or "rabbitmq-server"]

    def environment(self) -> dict[str, str]:
        root = str(self.root)
        return dict(os.environ, HOME=root, ERL_EPMD_PORT=str(self._epmd_port), ERL_EPMD_ADDRESS="127.0.0.1",
                    RABBITMQ_NODENAME=f"bench{self.port}@localhost", RABBITMQ_MNESIA_BASE=f"{root}/mnesia",
                    RABBITMQ_LOG_BASE=f"{root}/log", RABBITMQ_CONFIG_FILE=f"{root}/rabbitmq.conf",
                    RABBITMQ_ENABLED_PLUGINS_FILE=f"{root}/enabled_plugins", RABBITMQ_PID_FILE=f"{root}/pid",
                    RABBITMQ_DIST_PORT=str(free_port()), RABBITMQ_CONF_ENV_FILE=f"{root}/none",
                    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none")

    def stop(self, how: int = signal.SIGTERM) -> None:
        super().stop(how)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(5)
            self._epmd = None


class ManagedRabbitMq(RabbitMq):
    """The same with the management plugin, whose HTTP API can publish. Only for the row that needs it."""

    name = "rabbitmq-managed"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.http_port = free_port()

    def command(self) -> list[str]:
        command = super().command()
        (self.root / "enabled_plugins").write_text("[rabbitmq_mqtt,rabbitmq_management].\n")
        with open(self.root / "rabbitmq.conf", "a") as config:
            config.write(f"management.tcp.port = {self.http_port}\nmanagement.tcp.ip = 127.0.0.1\n"
                         "management_agent.disable_metrics_collector = true\n")
        return command


ALL: tuple[type[Broker], ...] = (Meshgate, Mosquitto, Nats, Rumqttd, RabbitMq)
