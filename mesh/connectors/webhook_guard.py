"""Where a webhook may go: not to this machine, nor to what only this machine can reach. hostile.md row 80. No I/O.

Two checks. check_url() when a consumer is made: what is certainly wrong is refused at once. check_address() for every
connection: on the very address that is connected to, after DNS has answered, so that a name that changes its mind
(DNS rebinding) gains nothing. Redirects are not followed at all.
"""
from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

from yarl import URL

from mesh.values.address import is_loopback

URL_CHARS_MAX = 2_048
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_PLATFORM = (ipaddress.ip_network("168.63.129.16/32"),)     # Azure's, public by its number, a machine's own by its use
_NAT64 = ipaddress.ip_network("64:ff9b::/96")               # RFC 6052: the last 32 bits are an IPv4 address
_UNICAST = ipaddress.ip_network("2000::/3")                 # RFC 4291 §2.4: all of IPv6 that is public is in it
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, (             # and what Python 3.11 takes for public
    "192.88.99.0/24", "3fff::/20")))                        # RFC 7526, RFC 9637
_NOT_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "metadata", "metadata.google.internal")


class TargetRefused(OSError):
    """This node does not call that address. An OSError, so that the HTTP client treats it as a failed connection."""


class Guard:
    """The networks that the configuration allows beside the public ones."""

    def __init__(self, allow: tuple[str, ...] = (), *, https_only: bool = False) -> None:
        self._https_only = https_only
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in allow)

    def check_url(self, text: str) -> URL:
        """The URL, if it may be called as far as one can tell without DNS. Raises TargetRefused."""
        odd = not text.isascii() or not text.isprintable() or any(char in text for char in ' \\"<>')
        if odd or len(text) > URL_CHARS_MAX:
            raise TargetRefused(f"a webhook's URL has at most {URL_CHARS_MAX} characters of ASCII, without spaces")
        try:
            url = URL(text)
            host, port = url.host, url.port
        except ValueError:
            raise TargetRefused("this is not a URL") from None
        if url.scheme not in ("http", "https"):
            raise TargetRefused("a webhook's URL begins with https:// or http://")
        if not host or port is None or not 0 < port < 65_536:
            raise TargetRefused("the URL names no host, or a port that does not exist")
        if self._https_only and url.scheme != "https" and not is_loopback(host):
            raise TargetRefused("this node calls other machines over TLS only: https://")
        if url.user is not None or url.password is not None:
            raise TargetRefused("credentials do not belong into the URL; send a header by reference")
        if url.fragment:
            raise TargetRefused("a fragment (#…) is not sent to anybody; leave it out")
        name = host.rstrip(".").lower()
        address = _literal(name)
        if address is not None:
            self.check_address(str(address))
        elif (name in _NOT_NAMES or name.endswith((".localhost", ".internal"))) and not self._allowed:
            raise TargetRefused(f"{name} is a machine or a service of the inside; see [webhooks] allow")
        return url

    def check_address(self, text: str) -> None:
        """Raises TargetRefused unless this address may be connected to."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            raise TargetRefused(f"{text!r} is not an address") from None
        for inner in _meant(address):
            if any(inner in network for network in self._allowed if network.version == inner.version):
                continue
            if not inner.is_global or inner.is_multicast or (inner.version == 6 and inner not in _UNICAST) or any(
                    inner in network for network in (*_PLATFORM, *_NOT_PUBLIC) if network.version == inner.version):
                raise TargetRefused(f"{inner} is not a public address; see [webhooks] allow")


def _meant(address: Address) -> list[Address]:
    """The address, and those that it stands for: an IPv4 address can be dressed as IPv6 in several ways."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [address]


def _literal(host: str) -> Address | None:
    """The address that a host is when it is written as one, also in the forms that only C libraries know (0x7f.1)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    if not host or not set(host) <= set("0123456789abcdefx."):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
