"""A plant and a cloud on machines of their own (network namespaces), and a plant that nobody can reach.

    plant ──veth── cloud        one way cut by a blackhole route, both ways by taking the wire down
    plant ──veth── gate ──veth── cloud      the plant's only way out is the CONNECT proxy at the gate; no listener
"""
from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.mesh_rig import TOKEN
from tests.support import netns
from tests.support.checker import Message
from tests.support.connectproxy import ConnectProxy
from tests.support.mesh_checker import ALWAYS, MeshHistory, Published, Wish, check_mesh
from tests.support.mesh_log import LogReader, read_epoch
from tests.support.netns import Namespaces
from tests.support.node import Node
from tests.support.wait import wait_until

WANT_ALL = '[[replicate]]\nfilter = "site/#"\nfrom = "earliest"\n'
PEERS = f'[[link_peers]]\nnode = "*"\ntoken = "{TOKEN}"\n'
CONVERGED_S = 120.0


@pytest.fixture
def space() -> Iterator[Callable[..., Namespaces]]:
    """Namespaces by name, gone afterwards. Skipped, or failed, where there can be none."""
    why = netns.missing()
    if why:
        if os.geteuid() == 0 and "ip command" in why and os.environ.get("MESHGATE_REQUIRE_PEERS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    made: list[Namespaces] = []

    def make(*names: str) -> Namespaces:
        made.append(Namespaces(*names).__enter__())
        return made[-1]

    yield make
    for one in made:
        one.__exit__()


class Site:
    """A node in its namespace, with what was published there."""

    def __init__(self, net: Namespaces, name: str, folder: Path, extra: str) -> None:
        self.net, self.name = net, name
        self.node = Node(folder / name, name=name, listeners=("http", "console"), extra=extra)
        self.node.process.command = net.command(name, self.node.process.command)
        self.sent: dict[Message, bool] = {}

    def start(self) -> None:
        with self.net.inside(self.name):
            self.node.start()

    def publish(self, count: int) -> None:
        """Events over HTTP, one request each, in order."""
        with self.net.inside(self.name):
            for number in range(len(self.sent) + 1, len(self.sent) + 1 + count):
                message = Message(self.name, "k", number)
                self.sent[message] = self.node.publish(f"site/{self.name}", message.payload()).status < 300


def all_there(sites: list[Site]) -> None:
    """Wait until each has everything of the other, then hold the logs against each other."""
    history = MeshHistory(epochs={site.name: read_epoch(site.node.data) for site in sites})
    for site in sites:
        history.wishes.append(Wish(site.name, "site/#", ALWAYS, ALWAYS))
        for message, acked in site.sent.items():
            history.published[message] = Published(site.name, f"site/{site.name}", 0.0, 0.0 if acked else None)

    def complete() -> bool:
        for site in sites:
            history.logs[site.name] = LogReader(site.node.data, "site/").poll()
        return not check_mesh(history).faults["LOST"]

    deadline_s = time.monotonic() + CONVERGED_S
    while not complete() and time.monotonic() < deadline_s:
        time.sleep(0.2)                                         # polling, bounded by the deadline
    figures = check_mesh(history)
    assert figures.clean, f"{figures}\n" + "\n".join(site.node.process.log_tail(15) for site in sites)
    assert all(len(history.logs[site.name]) > len(site.sent) for site in sites)


@pytest.mark.timeout(600)
def test_wires_that_fail_one_way_and_both(space, tmp_path: Path) -> None:
    net = space("plant", "cloud")
    net.wire("plant", "cloud")
    cloud_address = net.address("cloud", "plant")
    listen = f'[listeners.link]\nbind = "{cloud_address}:7420"\ninsecure = true\n'
    cloud = Site(net, "cloud", tmp_path, listen + PEERS + WANT_ALL)
    plant = Site(net, "plant", tmp_path, WANT_ALL + (
        f'[[links]]\nto = "ws://{cloud_address}:7420"\ntoken = "{TOKEN}"\ninsecure = true\n'))
    sites = [cloud, plant]
    try:
        for site in sites:
            site.start()
        for site in sites:
            site.publish(20)
        all_there(sites)
        for sender, receiver in (("plant", "cloud"), ("cloud", "plant")):
            net.one_way(sender, receiver)
            for site in sites:
                site.publish(30)
            net.restore(sender, receiver)
            all_there(sites)
        net.one_way("plant", "cloud")
        net.one_way("cloud", "plant")
        for site in sites:
            site.publish(30)
        net.restore("plant", "cloud")
        net.restore("cloud", "plant")
        all_there(sites)
    finally:
        for site in sites:
            site.node.process.kill9()


@pytest.mark.timeout(600)
def test_an_edge_behind_a_proxy_with_no_way_in_bridges_both_ways(space, tmp_path: Path) -> None:
    """The plant reaches only the gate, nothing reaches it, and it has no link listener. Events flow both ways."""
    net = space("plant", "gate", "cloud")
    net.wire("plant", "gate")
    net.wire("gate", "cloud")
    cloud_address, gate_address = net.address("cloud", "gate"), net.address("gate", "plant")
    listen = f'[listeners.link]\nbind = "{cloud_address}:7420"\ninsecure = true\n'
    with net.inside("gate"):                                    # its sockets, both sides, belong to the gate
        proxy = ConnectProxy(user="plant", password="let-me-out", host=gate_address, hosts=(cloud_address,),
                             inside=lambda: net.inside("gate"))
        proxy.__enter__()
    cloud = Site(net, "cloud", tmp_path, listen + PEERS + WANT_ALL)
    plant = Site(net, "plant", tmp_path, WANT_ALL + (
        f'[[links]]\nto = "ws://{cloud_address}:7420"\ntoken = "{TOKEN}"\ninsecure = true\n'
        f'proxy = "http://{gate_address}:{proxy.port}"\nproxy_user = "plant"\nproxy_password = "let-me-out"\n'))
    sites = [cloud, plant]
    try:
        for site in sites:
            site.start()
        assert _unreachable(net, "cloud", net.address("plant", "gate")), "the cloud must have no way to the plant"
        for site in sites:
            site.publish(40)
        all_there(sites)
        plant.node.kill9()
        cloud.publish(30)                                       # waits at the cloud until the plant dials again
        plant.start()
        plant.publish(30)
        all_there(sites)
        wait_until(lambda: proxy.tunnels >= 2, "the plant has dialled twice")
    finally:
        for site in sites:
            site.node.process.kill9()
        proxy.__exit__()


def _unreachable(net: Namespaces, source: str, address: str) -> bool:
    """No route, so not even a first packet."""
    asked = subprocess.run(net.command(source, ["ip", "route", "get", address]), capture_output=True, check=False)
    return asked.returncode != 0
