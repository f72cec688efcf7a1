"""Where a link goes: a [[links]] table with URL, TLS context and proxy made ready, before anything is dialled."""
from __future__ import annotations

import ssl

import msgspec
from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from mesh.link.dialling.proxy import ProxyAddress
from mesh.link.protocol.peer import NAME_CHARACTERS
from mesh.link.settings import LinkTable
from mesh.system.tls import client_context
from mesh.values.address import is_loopback
from mesh.values.secret import resolve_secret
from routing.errors import ConfigError

NAME_MAX = 64


class Target(msgspec.Struct, frozen=True):
    """A link that can be dialled."""

    table: LinkTable
    name: str
    uri: WebSocketURI
    context: ssl.SSLContext | None
    proxy: ProxyAddress | None

    def token(self) -> str | None:
        """The token as it is now: a file is read with every dial, so that it can be changed. Raises ConfigError."""
        return None if self.table.token is None else resolve_secret(self.table.token)


def link_name(table: LinkTable) -> str:
    """The link's name; without one, made of host and port."""
    if table.name:
        return table.name
    where = table.to.partition("://")[2].partition("/")[0]
    name = "".join(char if char in NAME_CHARACTERS else "-" for char in where).strip("-.")
    return name[:NAME_MAX] or "link"


def parse_target(table: LinkTable) -> WebSocketURI:
    """The URL of a link. Raises ValueError."""
    expected = f"expected ws://HOST:PORT or wss://HOST:PORT, got {table.to!r}"
    if not table.to.isascii() or not table.to.isprintable() or " " in table.to or not table.to.startswith(
            ("ws://", "wss://")):
        raise ValueError(expected)
    try:
        uri = parse_uri(table.to)
    except (InvalidURI, ValueError) as error:
        raise ValueError(expected) from error
    if uri.username is not None or not uri.host:
        raise ValueError(expected)
    return uri


def parse_proxy(table: LinkTable) -> ProxyAddress | None:
    """The proxy of a link, without its password. Raises ValueError."""
    if table.proxy is None:
        return None
    expected = f"expected http://HOST:PORT, got {table.proxy!r}"
    if not table.proxy.startswith("http://"):
        raise ValueError(expected)
    try:
        uri = parse_uri("ws" + table.proxy.removeprefix("http"))
    except (InvalidURI, ValueError) as error:
        raise ValueError(expected) from error
    if uri.username is not None:
        raise ValueError("write the user as proxy_user and the password as proxy_password")
    return ProxyAddress(uri.host, uri.port, table.proxy_user, table.proxy_password)


def exposed_in_clear(table: LinkTable, uri: WebSocketURI) -> bool:
    """True when what the link says can be read on the way to another machine."""
    return not uri.secure and not is_loopback(uri.host)


def make_target(index: int, table: LinkTable) -> Target:
    """Read certificates and secrets. Raises ConfigError with the path of the setting."""
    path = f"links[{index}]"
    uri = parse_target(table)
    proxy = parse_proxy(table)
    try:
        if table.token is not None:
            resolve_secret(table.token)
    except ConfigError as error:
        raise ConfigError(f"{path}.token: {error}") from error
    try:
        if proxy is not None and proxy.password is not None:
            proxy = msgspec.structs.replace(proxy, password=resolve_secret(proxy.password))
    except ConfigError as error:
        raise ConfigError(f"{path}.proxy_password: {error}") from error
    context = None
    if uri.secure:
        try:
            context = client_context(table.ca, table.cert, table.key)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return Target(table, link_name(table), uri, context, proxy)
