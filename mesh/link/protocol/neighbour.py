"""What the overlay sees of a link, and what a link tells the overlay. Made by manager.py and by the simulation."""
from __future__ import annotations

from typing import Protocol

from mesh.link.protocol.frames import Frame, Gossip, Relay
from routing.errors import Refusal


class Neighbour(Protocol):
    """An authenticated link that is up. A new object with every connection."""

    @property
    def link(self) -> str: ...              # name of the link: unique per neighbour node
    @property
    def node(self) -> str: ...
    @property
    def site(self) -> str: ...
    @property
    def epoch(self) -> str: ...             # of the neighbour's log
    @property
    def boot(self) -> str: ...              # of the neighbour's process
    @property
    def version(self) -> str: ...
    @property
    def protocol(self) -> int: ...          # the version that was agreed on
    @property
    def cost(self) -> int: ...              # 1 or more
    @property
    def exports(self) -> tuple[str, ...]: ...   # filters that may leave here; ("#",) is everything
    @property
    def imports(self) -> tuple[str, ...]: ...   # filters that may enter here, before the prefix
    @property
    def prefix(self) -> str: ...            # topic prefix put before what enters here; "" or "a/b"
    @property
    def console(self) -> tuple[str, ...]: ...   # what may be asked of our management API here: "view", "operate"
    @property
    def administer(self) -> bool: ...       # are managed users, keys and policies taken from it?
    @property
    def node_key(self) -> str: ...          # by which it has to sign, "": no matter
    @property
    def entrust(self) -> bool: ...          # are they given to it?
    @property
    def rtt_s(self) -> float | None: ...    # smoothed; None until it was measured
    @property
    def skew_ms(self) -> float | None: ...  # the peer's wall clock minus ours
    @property
    def backlog_bytes(self) -> int: ...     # given to send() and not taken by the network yet
    @property
    def frame_bytes_max(self) -> int: ...   # largest frame that the peer takes

    def send(self, frame: Frame, priority: int) -> bool:
        """Queue a frame. False: its queue is full or the link is gone; the frame is dropped and counted.

        priority: 0 control, 1 interest and gossip, 2 direct, 3 data (see frames.PRIORITY_…).
        """
        ...

    def lied(self, text: str) -> None:
        """The overlay caught the peer in a lie: say Goodbye, count it, close the connection."""
        ...


class LinkEvents(Protocol):
    """What the overlay is told. Called on the loop, never re-entrantly from Neighbour.send()."""

    def neighbour_up(self, neighbour: Neighbour) -> Refusal | None:
        """A link came up. A refusal (duplicate node name …) closes it; neighbour_down is not called then."""
        ...

    def neighbour_down(self, neighbour: Neighbour, reason: str) -> None: ...

    def received(self, neighbour: Neighbour, frame: Gossip | Relay) -> None: ...
