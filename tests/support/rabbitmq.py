"""The reference broker for AMQP 0-9-1: a RabbitMQ on free loopback ports with a name server of its own."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.mosquitto import listens
from tests.support.ports import free_port
from tests.support.process import ServerProcess
from tests.support.wait import wait_until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/rabbitmq/bin"
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")      # the wrapper in sbin insists on changing the user
EPMD = shutil.which("epmd", path=_PATH)


def installed() -> bool:
    return SERVER.exists() and EPMD is not None


class RabbitMq:
    """port: of AMQP."""

    def __init__(self, folder: Path) -> None:
        assert EPMD is not None
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        names = free_port()
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users.guest = true\n"
            "disk_free_limit.absolute = 50MB\n")
        cookie = folder / ".erlang.cookie"
        cookie.write_text(os.urandom(12).hex())
        cookie.chmod(0o400)
        self._epmd = ServerProcess([EPMD, "-port", str(names), "-address", "127.0.0.1"], folder / "epmd.log", folder)
        self._environment = {
            "HOME": str(folder), "ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost", "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log", "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins", "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_DIST_PORT": str(free_port()), "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"}
        self.process = ServerProcess([str(SERVER)], folder / "rabbitmq.log", folder, self._environment)

    def start(self) -> RabbitMq:
        self._epmd.start()
        self.process.start()

        def up() -> bool:
            assert self.process.running, f"RabbitMQ has stopped:\n{self.process.log_tail()}"
            return listens(self.port)

        wait_until(up, "RabbitMQ listens", also=self.process.log_tail)
        return self

    def control(self, *arguments: str) -> str:
        """What rabbitmqctl says."""
        done = subprocess.run([str(SERVER.with_name("rabbitmqctl")), "-q", *arguments], capture_output=True, text=True,
                              timeout=120, env={**os.environ, **self._environment}, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        self.process.kill9()
        self._epmd.kill9()
