"""The toy protocol as the node knows it."""
from __future__ import annotations

from collections.abc import Iterator

import msgspec

from protocols.server import Parts, ProtocolServer, ProtocolSpec


class EchoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[echo]"""

    line_bytes_max: int = 1_024                 # without the end of the line; a topic and a short payload
    greeting: str = "echo"


def check(settings: EchoSettings) -> Iterator[str]:
    if "\n" in settings.greeting:
        yield "echo.greeting: expected one line"


def make(parts: Parts, settings: EchoSettings) -> ProtocolServer:
    from tests.mesh.echo.server import EchoServer

    return EchoServer(parts, settings)


ECHO = ProtocolSpec("echo", "lines", settings=EchoSettings, make=make, check=check)
