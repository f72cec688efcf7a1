"""listener.py: binding, TLS that takes new certificates, and the loopback rule on what a name really is."""
from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from pathlib import Path

import pytest

from mesh.configuration.settings import ListenerSettings
from mesh.process.listeners.listener import Listener
from mesh.process.listeners.secure import BEGUN_MAX
from mesh.system.tls import make_context
from mesh.values.tls import TlsSettings
from routing.errors import ConfigError
from routing.fairness.turns import Share, Turns
from tests.support.certificates import Certificates, make_certificates
from tests.support.wait import DEADLINE_S


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(data)


def _turns() -> Turns:
    return Turns(asyncio.get_running_loop().call_soon, time.monotonic, cpu_s=time.thread_time)


def _certificates(folder: Path) -> Certificates:
    folder.mkdir()
    return make_certificates(folder)


async def test_port_0_takes_a_free_one_and_says_which() -> None:
    listener = Listener("mqtt", ListenerSettings("127.0.0.1:0"), anonymous=True)
    listener.bind()
    await listener.open(Echo, None, _turns())
    (host, port), = listener.addresses
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    listener.stop()
    with pytest.raises(OSError):
        await asyncio.open_connection(host, port)


async def test_a_taken_port_is_an_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener = Listener("mqtt", ListenerSettings(f"127.0.0.1:{port}"), anonymous=True)
        with pytest.raises(ConfigError, match=f"listeners.mqtt.bind: 127.0.0.1:{port}: another program listens there"):
            listener.bind()
        second = Listener("mqtt", ListenerSettings(f"127.0.0.1:{port}"), anonymous=True, path="listeners.mqtt[1]")
        with pytest.raises(ConfigError, match=r"listeners\.mqtt\[1\]\.bind: 127"):
            second.bind()


def test_a_name_that_is_not_loopback_is_refused_without_users(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.9", 1883))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    listener = Listener("mqtt", ListenerSettings("localhost:1883"), anonymous=True)
    with pytest.raises(ConfigError, match="localhost is 192.0.2.9, which other machines can reach"):
        listener.bind()


async def _served_certificate(port: int, authority: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = False
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(certificate)


async def test_new_certificates_serve_new_connections_and_old_ones_stay(tmp_path: Path) -> None:
    old, new = _certificates(tmp_path / "old"), _certificates(tmp_path / "new")
    settings = TlsSettings(str(old.server_cert), str(old.server_key))
    listener = Listener("mqtt", ListenerSettings("127.0.0.1:0", settings), anonymous=False)
    listener.bind()
    await listener.open(Echo, make_context(settings), _turns())
    port = listener.addresses[0][1]
    context = ssl.create_default_context(cafile=str(old.ca))
    context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    before = await _served_certificate(port, Path(old.ca))

    changed = TlsSettings(str(new.server_cert), str(new.server_key))
    for _ in range(5):
        await listener.reload(changed, make_context(changed))
    assert await _served_certificate(port, Path(new.ca)) != before
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()
    listener.stop()


async def test_plaintext_on_a_tls_port_is_closed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """hostile.md row 86."""
    made = _certificates(tmp_path / "made")
    settings = TlsSettings(str(made.server_cert), str(made.server_key))
    listener = Listener("mqtt", ListenerSettings("127.0.0.1:0", settings), anonymous=False)
    listener.bind()
    await listener.open(Echo, make_context(settings), _turns())
    reader, writer = await asyncio.open_connection(*listener.addresses[0])
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(DEADLINE_S):
        try:
            while await reader.read(1_000):
                pass
        except ConnectionResetError:
            pass
    writer.close()
    assert listener.handshakes.failed == 1
    assert "listener mqtt (127.0.0.1:0): a TLS handshake failed: the client speaks HTTP without TLS" in caplog.text
    listener.stop()


async def test_who_has_no_certificate_where_one_is_asked_for_is_counted(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = _certificates(tmp_path / "made")
    settings = TlsSettings(str(made.server_cert), str(made.server_key), str(made.ca))
    listener = Listener("link", ListenerSettings("127.0.0.1:0", settings), anonymous=False)
    listener.bind()
    await listener.open(Echo, make_context(settings), _turns())
    context = ssl.create_default_context(cafile=str(made.ca))
    context.check_hostname = False
    for _ in range(3):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*listener.addresses[0], ssl=context)
            writer.write(b"x")
            await reader.read(1)
    async with asyncio.timeout(DEADLINE_S):
        while listener.handshakes.failed < 3:
            await asyncio.sleep(0.01)
    assert caplog.text.count("the client has no certificate, and client_ca asks for one") == 1, "not a line for each"
    listener.stop()


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_bad_certificate_file_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cert.pem").write_bytes(content)
    with pytest.raises(ConfigError, match="cert.pem"):
        make_context(TlsSettings(str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem")))


async def test_of_many_handshakes_some_begin_in_a_turn_and_each_is_paid_for(tmp_path: Path) -> None:
    """A hundred that were opened at the same moment took 100 ms of one turn."""
    made = _certificates(tmp_path / "made")
    settings = TlsSettings(str(made.server_cert), str(made.server_key))
    listener = Listener("mqtt", ListenerSettings("127.0.0.1:0", settings), anonymous=False)
    listener.bind()
    begun: list[int] = []
    charged: list[Share] = []
    number = 0

    class Noted(Turns):
        def charge(self, share: Share, seconds: float, foreseen_s: float = 0.0) -> None:
            charged.append(share)
            super().charge(share, seconds, foreseen_s)

    loop = asyncio.get_running_loop()
    turns = Noted(loop.call_soon, time.monotonic, cpu_s=time.thread_time)

    def next_turn() -> None:
        nonlocal number, handle
        number += 1
        handle = loop.call_soon(next_turn)

    handle = loop.call_soon(next_turn)

    def factory() -> Echo:
        begun.append(number)
        return Echo()

    await listener.open(factory, make_context(settings), turns)
    context = ssl.create_default_context(cafile=str(made.ca))
    context.check_hostname = False
    address = listener.addresses[0]
    plain = [socket.create_connection(address) for _ in range(100)]
    opened = await asyncio.gather(*(asyncio.open_connection(sock=sock, ssl=context, server_hostname="localhost")
                                    for sock in plain))
    assert len(begun) == 100 and max(map(begun.count, begun)) <= BEGUN_MAX
    assert len(charged) >= 200 and "TLS handshakes of listener mqtt" in charged[0].describe()
    turns.charge(Share(), 1.0)                                # a full turn takes nobody in, the next one does
    last = socket.create_connection(address)
    reader, writer = await asyncio.open_connection(sock=last, ssl=context, server_hostname="localhost")
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    handle.cancel()
    for _, writer in opened:
        writer.close()
    writer.close()
    listener.stop()
