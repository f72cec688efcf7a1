"""Opening a connection to a neighbour: every address of its name in turn, through a proxy if there is one, then TLS."""
from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable

from mesh.link.dialling.proxy import ProxyError, open_tunnel
from mesh.link.dialling.target import Target
from mesh.link.settings import LinkLimits
from mesh.link.sockets import set_socket_options
from mesh.link.transport import LinkConnection
from mesh.system.names.names import Names

ADDRESSES_MAX = 16      # of one name that are tried


class DialError(Exception):
    """No connection; the text says in which step and why."""


async def dial(target: Target, limits: LinkLimits, make: Callable[[], LinkConnection], names: Names) -> LinkConnection:
    """A connection whose opening handshake is under way. Raises DialError."""
    proxy = target.proxy
    host, port = (target.uri.host, target.uri.port) if proxy is None else (proxy.host, proxy.port)
    via = "" if proxy is None else " (the proxy)"
    try:
        async with asyncio.timeout(limits.connect_timeout_s):
            found = await names.resolve(host, port)
    except TimeoutError:
        raise DialError(f"{host}{via}: the name was not resolved in {limits.connect_timeout_s:g} s") from None
    except OSError as error:
        raise DialError(f"{host}{via}: {error.strerror or error}") from error
    problem = f"{host}{via}: no address"
    for family, _, _, _, address in found[:ADDRESSES_MAX]:
        where = f"{address[0]}:{port}{via}"
        try:
            async with asyncio.timeout(limits.connect_timeout_s):
                return await _open(target, limits, make, family, address)
        except TimeoutError:
            problem = f"{where}: no answer in {limits.connect_timeout_s:g} s"
        except ssl.SSLCertVerificationError as error:
            problem = f"{where}: its certificate is not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            problem = f"{where}: TLS: {error.reason or error}"
        except ProxyError as error:
            problem = f"{where}: {error}"
        except OSError as error:
            problem = f"{where}: {os.strerror(error.errno) if error.errno else error}"
    raise DialError(problem)


async def _open(
    target: Target, limits: LinkLimits, make: Callable[[], LinkConnection], family: int, address: tuple[object, ...],
) -> LinkConnection:
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM)
    made: list[LinkConnection] = []

    def make_and_keep() -> LinkConnection:
        made.append(make())
        return made[0]

    try:
        sock.setblocking(False)
        set_socket_options(sock, limits)
        await loop.sock_connect(sock, address)
        if target.proxy is not None:
            await open_tunnel(loop, sock, target.uri.host, target.uri.port, target.proxy)
        name = None if target.context is None else target.table.server_name or target.uri.host
        _, connection = await loop.create_connection(make_and_keep, sock=sock, ssl=target.context, server_hostname=name)
    except BaseException:
        sock.close()
        for abandoned in made:      # cancelled when the socket was open: uvloop would not tell it that it is lost
            abandoned.connection_lost(None)
        raise
    return connection
