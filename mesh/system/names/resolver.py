"""Names as a resolver for aiohttp: so that a client of ours waits on threads of its own use, not on those of all."""
from __future__ import annotations

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from mesh.system.names.names import Names


class NamesResolver(AbstractResolver):
    """For aiohttp.TCPConnector, with use_dns_cache=False: Names has a cache of its own."""

    def __init__(self, names: Names, check: Callable[[str], None] | None = None) -> None:
        """check: raises for an address that may not be called; one such among the answers, and none may."""
        self._names = names
        self._check = check

    async def resolve(self, host: str, port: int = 0,
                      family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Raises OSError, and what check raises."""
        found = await self._names.resolve(host, port, family, socket.AI_ADDRCONFIG)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            if self._check is not None:
                self._check(str(address[0]))
            results.append(ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol,
                                         flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV))
        return results

    async def close(self) -> None:
        pass
