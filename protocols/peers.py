"""Peers: the other nodes of the mesh, as a protocol speaks to them. The node gives it (mesh/between.py)."""
from __future__ import annotations

from collections.abc import Container
from typing import Protocol


class Peers(Protocol):
    """Loop thread only. What is said may be lost, doubled or overtaken, and takes any way there is."""

    @property
    def me(self) -> str:
        """The name of this node."""
        ...

    @property
    def epoch(self) -> str:
        """Of its log."""
        ...

    @property
    def in_sight(self) -> Container[str]:
        """Names of nodes to which there is a way."""
        ...

    def say(self, node: str, body: bytes) -> None:
        """To the same protocol on another node: its server hears it."""
        ...
