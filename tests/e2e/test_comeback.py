"""A plant comes back after a restart of the node: all are in within the time, nobody is locked out or told "wrong".

With MESHGATE_SOAK=1 as many as the acceptance asks for, with the real cost of a password: 2,000 users within 90 s, and
10,000 tokens or client certificates within 60 s. In the suite 200, with a cheap hash. The devices do as devices do:
who is told "busy", or hears nothing, comes again after a moment that grows.
"""
from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import argon2
import pytest

from mesh.identity.users import HASHER
from tests.mesh.identity.tokens import jwk, jwks, rsa_key, token
from tests.support.node import Node
from tests.support.rawmqtt import connect_packet

pytestmark = pytest.mark.measured

SOAK = os.environ.get("MESHGATE_SOAK") == "1"
USERS, TOKENS = (2_000, 10_000) if SOAK else (200, 200)
WITHIN_S = 10.0 if SOAK else 1.0            # they come within this time
USERS_IN_S, TOKENS_IN_S = 90.0, 60.0
OPENING_MAX = 400                           # at the same time, since all devices are one process here
PASSWORD = "correct horse"


class Device(NamedTuple):
    client_id: str
    username: str | None = None
    password: bytes | None = None


class Plant:
    """All devices in one process."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.codes: Counter[int | str] = Counter()
        self._address = address
        self._tls = tls
        self._opening = asyncio.Semaphore(OPENING_MAX)
        self._writers: list[asyncio.StreamWriter] = []

    async def come_back(self, devices: list[Device], deadline_s: float) -> float:
        """Seconds until the last one is in."""
        begun_s = time.monotonic()
        rng = random.Random(7)
        async with asyncio.timeout(deadline_s):
            await asyncio.gather(*(self._connect(device, rng.random() * WITHIN_S, rng) for device in devices))
        took_s = time.monotonic() - begun_s
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        return took_s

    async def _connect(self, device: Device, wait_s: float, rng: random.Random) -> None:
        await asyncio.sleep(wait_s)
        back_off_s = 1.0
        while (code := await self._try(device)) != 0:
            self.codes[code] += 1
            await asyncio.sleep(back_off_s * (0.5 + rng.random()))
            back_off_s = min(back_off_s * 1.5, 8.0)
        self.codes[0] += 1

    async def _try(self, device: Device) -> int | str:
        async with self._opening:
            try:
                reader, writer = await asyncio.open_connection(*self._address, ssl=self._tls)
            except OSError as error:
                return type(error).__name__
        try:
            writer.write(connect_packet(device.client_id, username=device.username, password=device.password))
            async with asyncio.timeout(20):
                kind, length = await reader.readexactly(2)
                body = await reader.readexactly(length)
            assert kind == 0x20
            if body[1] == 0:
                self._writers.append(writer)
                return 0
            code: int | str = body[1]
        except (OSError, EOFError, TimeoutError) as error:
            code = type(error).__name__
        writer.transport.abort()
        return code

    def told_wrong(self) -> dict[int | str, int]:
        return {code: count for code, count in self.codes.items() if code in (0x86, 0x87, 0x8A)}


def users_toml() -> str:
    hasher = HASHER if SOAK else argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    stored = hasher.hash(PASSWORD)
    return "".join(f'[[users]]\nname = "dev-{number}"\npassword_hash = "{stored}"\n' for number in range(USERS))


def said(what: str, took_s: float, plant: Plant) -> None:
    print(f"{what}: {took_s:.1f} s, answers {dict(plant.codes)}")


@pytest.mark.parametrize("remembered", [True, False], ids=["were here before", "for the first time"])
async def test_devices_with_passwords_come_back(node_factory: Callable[..., Node], remembered: bool) -> None:
    """First all of them for the first time, then the node is killed and they come again."""
    node = node_factory(extra=users_toml())
    devices = [Device(f"c-{number}", f"dev-{number}", PASSWORD.encode()) for number in range(USERS)]
    plant = Plant(node.mqtt)
    if remembered:
        await plant.come_back(devices, 10 * USERS_IN_S)        # 2,000 checks of a password: that is not what is asked
        await asyncio.to_thread(node.restart)
        plant = Plant(node.mqtt)
    took_s = await plant.come_back(devices, USERS_IN_S)
    said(f"{USERS} users, {'remembered' if remembered else 'new'}", took_s, plant)
    assert plant.codes[0] == USERS and not plant.told_wrong()
    assert "locked out" not in node.process.log_text()


async def test_devices_with_tokens_come_back(node_factory: Callable[..., Node], tmp_path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(jwk(rsa_key(), "k1")))
    node = node_factory(extra=f'[[jwt]]\nissuer = "https://login.example"\naudience = ["meshgate"]\n'
                              f'jwks = {json.dumps("file:" + str(tmp_path / "keys.json"))}\n')
    now_s = int(time.time())
    made = [token(sub=f"dev-{number}", iat=now_s, nbf=now_s - 60, exp=now_s + 3_600) for number in range(TOKENS)]
    devices = [Device(f"c-{number}", "bearer", text) for number, text in enumerate(made)]
    await asyncio.to_thread(node.restart)
    plant = Plant(node.mqtt)
    took_s = await plant.come_back(devices, TOKENS_IN_S)
    said(f"{TOKENS} tokens", took_s, plant)
    assert plant.codes[0] == TOKENS and not plant.told_wrong()


class NodeWithClientCertificates(Node):
    def _listener_text(self, port: int, *, secure: bool) -> str:
        return super()._listener_text(port, secure=secure).replace(
            "tls = {", f'tls = {{ client_ca = "{self.certificates.ca}",')


async def test_devices_with_certificates_come_back(tmp_path, certificates) -> None:
    node = NodeWithClientCertificates(tmp_path / "node", tls=("mqtt",), certificates=certificates)
    context = certificates.client_context()
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    try:
        node.start()
        plant = Plant(("localhost", node.ports["mqtt"]), context)
        took_s = await plant.come_back([Device(f"c-{number}") for number in range(TOKENS)], TOKENS_IN_S)
        said(f"{TOKENS} certificates", took_s, plant)
        assert plant.codes[0] == TOKENS and not plant.told_wrong()
    finally:
        node.stop()
