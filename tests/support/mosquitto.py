"""The reference broker: a Mosquitto on free loopback ports with plain, TLS and WebSocket listeners."""
from __future__ import annotations

import getpass
import shutil
import socket
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.process import ServerProcess
from tests.support.wait import wait_until

BINARY = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Mosquitto:
    """Ports by name: mqtt, mqtts, ws, wss."""

    def __init__(self, folder: Path, certificates: Certificates, more: tuple[str, ...] = ()) -> None:
        """more: lines of its configuration, such as those of a bridge."""
        assert BINARY is not None
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port() for name in ("mqtt", "mqtts", "ws", "wss")}
        lines = ["allow_anonymous true", "per_listener_settings false", "set_tcp_nodelay true",
                 "max_queued_messages 10000", f"user {getpass.getuser()}"]
        for name, port in self.ports.items():
            lines.append(f"listener {port} 127.0.0.1")
            lines += ["protocol websockets"] if name.startswith("ws") else ["max_topic_alias 10"]
            if name.endswith("s") and name != "ws":
                lines += [f"certfile {certificates.server_cert}", f"keyfile {certificates.server_key}"]
        lines += more
        config = folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        self.process = ServerProcess([BINARY, "-v", "-c", str(config)], folder / "mosquitto.log", folder)

    def start(self) -> Mosquitto:
        self.process.start()
        for port in self.ports.values():
            self._wait_for(port)
        return self

    def _wait_for(self, port: int) -> None:
        def up() -> bool:
            assert self.process.running, f"Mosquitto has stopped:\n{self.process.log_tail()}"
            return listens(port)

        wait_until(up, "Mosquitto listens", also=self.process.log_tail)

    def stop(self) -> None:
        self.process.kill9()
