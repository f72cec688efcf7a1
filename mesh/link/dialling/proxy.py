"""A tunnel through an HTTP proxy: CONNECT with Basic authentication.        Sources: RFC 9110 §9.3.6, §11; RFC 7617

Our own and not the `proxy=` of websockets 15: that one belongs to its asyncio connection class, which the links do not
use (transport.py says why), and it neither bounds the reply's head nor says in which step it failed.
"""
from __future__ import annotations

import asyncio
import base64
import socket

import msgspec

REPLY_BYTES_MAX = 16 * 1024


class ProxyError(OSError):
    """The proxy did not open the tunnel; the text says why and what to do."""


class ProxyAddress(msgspec.Struct, frozen=True):
    host: str
    port: int
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"ProxyAddress({self.host!r}, {self.port})"


def connect_request(host: str, port: int, proxy: ProxyAddress) -> bytes:
    """The head that asks for a tunnel to host:port."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user is not None:
        credentials = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def check_reply(data: bytes) -> bool:
    """True once the tunnel is open, False while the head is not complete. Raises ProxyError."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        if len(data) > REPLY_BYTES_MAX:
            raise ProxyError(f"the proxy's answer has no end within {REPLY_BYTES_MAX} bytes")
        return False
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not (words[1].isascii() and words[1].isdigit()):
        raise ProxyError("what listens there is not an HTTP proxy")
    status = int(words[1])
    if status == 407:
        raise ProxyError("the proxy wants other credentials (407): see proxy_user and proxy_password")
    if not 200 <= status < 300:
        reason = words[2] if len(words) > 2 else ""
        raise ProxyError(f"the proxy refused the tunnel: {status} {reason.encode('ascii', 'replace').decode()[:100]}")
    if rest:
        raise ProxyError("the proxy sent more than its answer")
    return True


async def open_tunnel(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, host: str, port: int, proxy: ProxyAddress,
) -> None:
    """Make sock, connected to the proxy, a tunnel to host:port. The caller bounds the time. Raises OSError."""
    await loop.sock_sendall(sock, connect_request(host, port, proxy))
    reply = b""
    while not check_reply(reply):
        data = await loop.sock_recv(sock, 4_096)
        if not data:
            raise ProxyError("the proxy closed the connection")
        reply += data
