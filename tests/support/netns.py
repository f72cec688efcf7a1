"""Network namespaces: machines of their own on this machine, wired with veth pairs. Linux, root.

    with Namespaces("edge", "cloud") as net:
        net.wire("edge", "cloud")               # 10.x.y.1 and .2
        net.command("edge", [...])              # a command line that runs there
        with net.inside("edge"): ...            # sockets of this thread are made there
        net.one_way("edge", "cloud")            # edge's packets to cloud are dropped; net.restore("edge", "cloud")
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence

_CLONE_NEWNET = 0x40000000
_ip = shutil.which("ip", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def missing() -> str:
    """Why there can be no namespaces here, "" when there can. A container without rights is no fault of the tests."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if _ip is None:
        return "no ip command (apt-get install iproute2)"
    name = f"probe-{os.getpid()}"
    if subprocess.run([_ip, "netns", "add", name], capture_output=True, check=False).returncode != 0:
        return "this machine does not allow network namespaces"
    subprocess.run([_ip, "netns", "del", name], capture_output=True, check=False)
    return ""


class Namespaces:
    def __init__(self, *names: str) -> None:
        tag = f"{os.getpid() % 10_000}{random.randrange(100):02d}"
        self._full = {name: f"mg{tag}-{name}" for name in names}
        self._net = random.randrange(256)
        self._wires: dict[tuple[str, str], str] = {}        # (name, other) → address of name on that wire

    def __enter__(self) -> Namespaces:
        try:
            for full in self._full.values():
                _run("netns", "add", full)
                _run("-n", full, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for full in self._full.values():
            subprocess.run([_ip or "ip", "netns", "del", full], capture_output=True, check=False)

    def wire(self, one: str, other: str) -> None:
        number = len(self._wires)
        ends = f"mg{self._net}a{number}", f"mg{self._net}b{number}"
        _run("link", "add", ends[0], "netns", self._full[one], "type", "veth", "peer", "name", ends[1], "netns",
             self._full[other])
        for end, name, peer, last in ((ends[0], one, other, 1), (ends[1], other, one, 2)):
            address = f"10.{self._net}.{number}.{last}"
            _run("-n", self._full[name], "addr", "add", f"{address}/24", "dev", end)
            _run("-n", self._full[name], "link", "set", end, "up")
            self._wires[name, peer] = address

    def address(self, name: str, other: str) -> str:
        """The address of name as other reaches it."""
        return self._wires[name, other]

    def one_way(self, sender: str, receiver: str) -> None:
        """What sender sends to receiver vanishes, as in a network that has lost a route."""
        _run("-n", self._full[sender], "route", "add", "blackhole", f"{self.address(receiver, sender)}/32")

    def restore(self, sender: str, receiver: str) -> None:
        _run("-n", self._full[sender], "route", "del", "blackhole", f"{self.address(receiver, sender)}/32")

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        return [_ip or "ip", "netns", "exec", self._full[name], *command]

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread is in the namespace: sockets that it makes belong there for ever."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(f"/var/run/netns/{self._full[name]}", os.O_RDONLY)
        try:
            _setns(target)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(target)
            os.close(home)


def _setns(handle: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _run(*arguments: str) -> None:
    done = subprocess.run([_ip or "ip", *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.decode().strip()}")
