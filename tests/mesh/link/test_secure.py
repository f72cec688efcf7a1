"""Links over TLS, with client certificates, with tokens, and through a proxy that wants a password."""
from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest

from mesh.link.dialling.proxy import ProxyAddress, ProxyError, check_reply, connect_request
from mesh.link.settings import LinkPeerTable, LinkTable
from mesh.system.tls import make_context
from mesh.values.tls import TlsSettings
from tests.mesh.link.nodes import LinkNode, fast_limits, until
from tests.support.certificates import Certificates, make_certificates
from tests.support.connectproxy import ConnectProxy

SECRET = "0123456789abcdef"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The client's certificate is that of node graz."""
    return make_certificates(tmp_path_factory.mktemp("pki"), client_name="graz")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("other"), client_name="graz")


def server_context(pki: Certificates, *, client_ca: bool):
    return make_context(TlsSettings(str(pki.server_cert), str(pki.server_key), str(pki.ca) if client_ca else None))


def wss(port: int, pki: Certificates, **options: object) -> LinkTable:
    values: dict[str, object] = {"to": f"wss://localhost:{port}", "name": "l1", "ca": str(pki.ca), **options}
    return LinkTable(**values)  # type: ignore[arg-type]


async def comes_up(node: LinkNode, other: LinkNode) -> None:
    await until(lambda: node.overlay.up and other.overlay.up)


async def fails(node: LinkNode, text: str) -> None:
    await until(lambda: text in (node.link("l1")["last_error"] or ""))
    assert not node.overlay.up


async def test_wss_with_a_token(pki: Certificates) -> None:
    async with LinkNode("cloud", peers=(LinkPeerTable("graz", token=SECRET),)) as cloud:
        port = await cloud.listen(server_context(pki, client_ca=False))
        async with LinkNode("graz", links=(wss(port, pki, token=SECRET),)) as graz:
            await comes_up(graz, cloud)
            assert graz.link("l1")["tls"] and cloud.link("graz:l1")["tls"]
        async with LinkNode("graz", links=(wss(port, pki, token=SECRET + "x"),), seed=2) as guessing:
            await fails(guessing, "not allowed to link")
        assert cloud.manager.counters["ended.bad_credentials"] >= 1


async def test_a_dial_without_what_tls_asks_for_is_told_what_may_be_missing(pki: Certificates) -> None:
    """The other end only hangs up: plain words and a missing certificate are nothing that it can answer."""
    async with LinkNode("cloud", peers=(LinkPeerTable("graz"),)) as cloud:
        port = await cloud.listen(server_context(pki, client_ca=True))
        async with LinkNode("graz", links=(LinkTable(f"ws://localhost:{port}", "l1"),)) as graz:
            await fails(graz, "does the other end have TLS (wss://)?")
        async with LinkNode("graz", links=(wss(port, pki),), seed=2) as graz:
            await fails(graz, "does the other end want a certificate (cert, key)?")


async def test_a_token_in_a_file_is_read_with_every_dial(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("wrong token, at first\n")
    async with LinkNode("cloud", peers=(LinkPeerTable("graz", token=SECRET),)) as cloud:
        port = await cloud.listen()
        table = LinkTable(to=f"ws://127.0.0.1:{port}", name="l1", token=f"file:{secret}")
        async with LinkNode("graz", links=(table,)) as graz:
            await fails(graz, "not allowed")
            secret.write_text(SECRET + "\n")
            await comes_up(graz, cloud)


async def test_mtls_is_the_proof_when_the_name_fits(pki: Certificates) -> None:
    async with LinkNode("cloud", peers=(LinkPeerTable("*"),)) as cloud:
        port = await cloud.listen(server_context(pki, client_ca=True))
        table = wss(port, pki, cert=str(pki.client_cert), key=str(pki.client_key))
        async with LinkNode("graz", links=(table,)) as graz:
            await comes_up(graz, cloud)
        async with LinkNode("lyon", links=(table,)) as lyon:
            await fails(lyon, "not allowed to link")


async def test_mtls_without_or_with_a_foreign_certificate_is_refused(pki: Certificates, other: Certificates) -> None:
    async with LinkNode("cloud", peers=(LinkPeerTable("*"),)) as cloud:
        port = await cloud.listen(server_context(pki, client_ca=True))
        without = wss(port, pki)
        foreign = wss(port, pki, cert=str(other.client_cert), key=str(other.client_key))
        for table in (without, foreign):
            async with LinkNode("graz", links=(table,)) as graz:
                await until(lambda graz=graz: graz.link("l1")["last_error"])
                assert not graz.overlay.up and not cloud.overlay.up


async def test_a_server_that_is_not_trusted_gets_no_token(pki: Certificates, other: Certificates) -> None:
    async with LinkNode("cloud", peers=(LinkPeerTable("graz", token=SECRET),)) as cloud:
        port = await cloud.listen(server_context(pki, client_ca=False))
        async with LinkNode("graz", links=(wss(port, other, token=SECRET),)) as graz:
            await fails(graz, "its certificate is not trusted")
        async with LinkNode("graz", links=(wss(port, pki, token=SECRET, server_name="cloud.example"),)) as graz:
            await fails(graz, "its certificate is not trusted")
        assert cloud.manager.counters["up"] == 0


async def test_plain_text_on_a_tls_port_and_tls_on_a_plain_one(pki: Certificates) -> None:
    async with LinkNode("cloud") as cloud:
        port = await cloud.listen(server_context(pki, client_ca=False))
        async with LinkNode("graz", links=(LinkTable(to=f"ws://127.0.0.1:{port}", name="l1"),)) as graz:
            await until(lambda: graz.link("l1")["last_error"])
    async with LinkNode("cloud") as cloud:
        port = await cloud.listen()
        async with LinkNode("graz", links=(wss(port, pki),)) as graz:
            await until(lambda: graz.link("l1")["last_error"])
            assert not graz.overlay.up


async def test_a_link_ends_with_its_jwt_and_comes_back_with_the_next(tmp_path: Path) -> None:
    key, file = "k" * 32, tmp_path / "jwt"

    def write(seconds: float) -> None:
        file.write_text(jwt.encode({"sub": "graz", "exp": time.time() + seconds}, key))

    write(-56.0)                            # a minute is forgiven, four seconds of which are left
    async with LinkNode("cloud", peers=(LinkPeerTable("*", jwt_key=key),)) as cloud:
        port = await cloud.listen()
        table = LinkTable(to=f"ws://127.0.0.1:{port}", name="l1", token=f"file:{file}")
        async with LinkNode("graz", links=(table,)) as graz:
            await comes_up(graz, cloud)
            await until(lambda: graz.overlay.downs == [("cloud", "the token has expired; come again with a new one")])
            await fails(graz, "not allowed")
            write(600)
            await comes_up(graz, cloud)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_link_through_a_proxy_with_a_password(pki: Certificates, secure: bool) -> None:
    with ConnectProxy(user="plant", password="p:ss") as proxy:
        async with LinkNode("cloud") as cloud:
            port = await cloud.listen(server_context(pki, client_ca=False) if secure else None)
            way = {"proxy": f"http://127.0.0.1:{proxy.port}", "proxy_user": "plant", "proxy_password": "p:ss"}
            table = wss(port, pki, **way) if secure else LinkTable(f"ws://127.0.0.1:{port}", "l1", **way)
            async with LinkNode("graz", links=(table,)) as graz:
                await comes_up(graz, cloud)
                assert proxy.tunnels == 1
                assert graz.link("l1")["proxy"] == f"http://127.0.0.1:{proxy.port}"


async def test_a_proxy_that_wants_another_password_is_told_apart() -> None:
    with ConnectProxy(user="plant", password="right") as proxy:
        async with LinkNode("cloud") as cloud:
            port = await cloud.listen()
            table = LinkTable(
                f"ws://127.0.0.1:{port}", "l1", proxy=f"http://127.0.0.1:{proxy.port}", proxy_user="plant",
                proxy_password="wrong")
            async with LinkNode("graz", links=(table,)) as graz:
                await fails(graz, "the proxy wants other credentials (407)")
                assert proxy.tunnels == 0


async def test_a_proxy_that_is_not_there() -> None:
    table = LinkTable("ws://127.0.0.1:9", "l1", proxy="http://127.0.0.1:1")
    async with LinkNode("graz", links=(table,), limits=fast_limits()) as graz:
        await fails(graz, "127.0.0.1:1 (the proxy): Connect")


def test_the_request_for_a_tunnel() -> None:
    request = connect_request("cloud.example", 443, ProxyAddress("p", 1, "user", "pass"))
    assert request == (
        b"CONNECT cloud.example:443 HTTP/1.1\r\nHost: cloud.example:443\r\n"
        b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n")
    assert connect_request("::1", 1, ProxyAddress("p", 1)).startswith(b"CONNECT [::1]:1 HTTP/1.1\r\n")
    assert "pass" not in repr(ProxyAddress("p", 1, "user", "pass"))


@pytest.mark.parametrize(("reply", "open_"), [
    (b"", False), (b"HTTP/1.1 200 OK\r\n", False), (b"HTTP/1.1 200 OK\r\n\r\n", True),
    (b"HTTP/1.0 204\r\nA: b\r\n\r\n", True),
])
def test_a_good_reply(reply: bytes, open_: bool) -> None:
    assert check_reply(reply) is open_


@pytest.mark.parametrize(("reply", "problem"), [
    (b"HTTP/1.1 407 No\r\n\r\n", "407"), (b"HTTP/1.1 403 No\x1b[2J\r\n\r\n", "refused the tunnel: 403"),
    (b"HTTP/1.1 301 Go\r\n\r\n", "301"), (b"SSH-2.0\r\n\r\n", "not an HTTP proxy"),
    (b"HTTP/1.1 \xb2\r\n\r\n", "not an HTTP"), (b"\r\n\r\n", "not an HTTP"),
    (b"x" * 20_000, "no end within"), (b"HTTP/1.1 200 OK\r\n\r\nmore", "more than its answer"),
])
def test_a_bad_reply(reply: bytes, problem: str) -> None:
    with pytest.raises(ProxyError, match=problem):
        check_reply(reply)
