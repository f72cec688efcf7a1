"""An edge node behind a proxy with a password, with no inbound port, over TLS: events pass both ways."""
from __future__ import annotations

from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.connectproxy import ConnectProxy
from tests.support.node import Node
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until

TOKEN = "0123456789abcdef"


def test_an_edge_node_behind_a_proxy_bridges_both_ways(tmp_path: Path, certificates: Certificates) -> None:
    peers = f'[[link_peers]]\nnode = "edge"\ntoken = "{TOKEN}"\n'
    cloud = Node(tmp_path / "cloud", name="cloud", extra=peers, listeners=("mqtt", "http", "console", "link"),
                 tls=("link",), certificates=certificates)
    with ConnectProxy(user="plant", password="p:ss") as proxy:
        link = (f'[[links]]\nto = "wss://localhost:{cloud.ports["link"]}"\nname = "up"\nca = "{certificates.ca}"\n'
                f'token = "{TOKEN}"\nproxy = "http://127.0.0.1:{proxy.port}"\nproxy_user = "plant"\n'
                'proxy_password = "env:PROXY_PASSWORD"\n')
        edge = Node(tmp_path / "edge", name="edge", extra=link, environment={"PROXY_PASSWORD": "p:ss"})
        try:
            cloud.start()
            edge.start()
            with open_mqtt(cloud.mqtt, "reader-cloud") as above, open_mqtt(edge.mqtt, "reader-edge") as below:
                above.subscribe(("up/#", 1))
                below.subscribe(("down/#", 1))
                for node, pattern in ((edge, "up/#"), (cloud, "down/#")):
                    wait_until(lambda node=node, pattern=pattern: pattern in node.get("/api/v1/interest").text,
                               f"{node.name} knows that {pattern} is wanted")
                assert edge.publish("up/a", b"from the plant").status == 200
                assert cloud.publish("down/a", b"from the cloud").status == 200
                assert above.message().payload == b"from the plant"
                assert below.message().payload == b"from the cloud"
            [seen] = cloud.get("/api/v1/links").json["links"]
            assert (seen["id"], seen["tls"]) == ("edge:up", True) and proxy.tunnels >= 1
        finally:
            edge.kill9()
            cloud.kill9()
