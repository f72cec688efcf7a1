"""Three real nodes as in the demo: a cloud, and two plants that dial it, one over a line that can be cut or held."""
from __future__ import annotations

from pathlib import Path

from tests.support.loopthread import LoopThread
from tests.support.node import HOST, Node
from tests.support.tcpproxy import TcpProxy
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "link", "amqp")


class ThreeNodes:
    """cloud; graz, behind the line; lyon."""

    def __init__(self, folder: Path, rate_bytes: int = 0) -> None:
        """rate_bytes: of what leaves graz, per second; 0: no bound."""
        self.cloud = Node(folder / "cloud", name="cloud-eu", site="aws-eu", listeners=LISTENERS)
        self._loop = LoopThread("proxy")
        self._loop.start()
        self._line = TcpProxy(self.cloud.ports["link"])
        self._loop.wait(self._line.start())
        self.graz = self._plant(folder, "plant-graz", self._line.port, rate_bytes)
        self.lyon = self._plant(folder, "plant-lyon", self.cloud.ports["link"])
        for node in self.nodes:
            node.start()
        self.wait_whole()

    def _plant(self, folder: Path, name: str, port: int, rate_bytes: int = 0) -> Node:
        return Node(folder / name, name=name, site=f"works-{name[6:]}", listeners=LISTENERS,
                    extra=f'[[links]]\nto = "ws://{HOST}:{port}"\nrate_bytes = {rate_bytes}')

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.cloud, self.graz, self.lyon

    def wait_whole(self) -> None:
        """All three have met, and every link is up."""
        def whole() -> bool:
            nodes = self.cloud.get("/api/v1/nodes?filter=hops>=0").json["nodes"]
            links = self.cloud.get("/api/v1/links").json["links"]
            return len(nodes) == 3 and len(links) == 2 and all(link["state"] == "up" for link in links)
        wait_until(whole, "all are linked")

    def cut(self) -> None:
        """The line of Graz breaks, and cannot be had again."""
        self._loop.call(lambda: self._line.refuse())
        self._loop.call(self._line.cut)

    def hold(self) -> None:
        """The line of Graz stays, and nothing passes."""
        self._loop.call(lambda: self._line.stall())

    def mend(self) -> None:
        self._loop.call(self._line.resume)

    def stop(self) -> None:
        for node in self.nodes:
            node.kill9()
        self._loop.wait(self._line.stop())
        self._loop.stop()
