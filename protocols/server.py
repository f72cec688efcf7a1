"""The seam between a node and its protocols: what a node asks of one, and what it gives. docs/adding-a-protocol.md.

    mesh/protocols.py   PROTOCOLS = (MQTT, WEBSOCKET, HTTP, …)          a ProtocolSpec each, in the order they are made
         │
         ├── spec.settings, spec.check     the table [name] of the configuration file
         ├── spec.port, spec.schemes       the listeners [listeners] name = …
         └── spec.make(parts, settings) ─► ProtocolServer ── factory() ─► an asyncio.Protocol per accepted connection

A folder of protocols/ holds its spec in spec.py, which imports no more than its settings: `meshgate check` reads all of
them. The server comes with make(). Everything here is called on the event loop's thread.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from protocols.authentication.authenticator import Authenticator

if TYPE_CHECKING:
    import asyncio

    from protocols.authentication.scram_passwords import ScramPasswords
    from protocols.managed import Policies
    from protocols.peers import Peers
    from protocols.redrive import Redrives
    from routing.direct.replies import Replies
    from routing.errors import Refusal
    from routing.log.partition import Partition
    from routing.router import Router
    from routing.ticket import Ticket

Settings = TypeVar("Settings", bound=msgspec.Struct)
ClientRow: TypeAlias = Mapping[str, str | int | bool | None]
SocketFactory: TypeAlias = "Callable[[], asyncio.BaseProtocol]"


@dataclass(frozen=True, slots=True)
class Address:
    """A bound address of one of the node's listeners."""

    host: str                       # as bound, "0.0.0.0" or "::" for all of the machine's
    port: int                       # the real one
    secure: bool                    # TLS


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node gives to its protocols."""

    router: Router                  # the door in, consumers, retained events; and the clocks and turns of the node
    authenticator: Authenticator
    scram: ScramPasswords           # of the users, for protocols with SASL
    replies: Replies                # answers to requests, whatever protocol they come by
    redrives: Redrives              # dead letters that are handed to their consumer once more
    node_name: str
    version: str                    # of the product
    listening: Callable[[str], list[Address]]       # listener → its addresses; empty until the node listens
    policies: Policies | None = None                # those that clients may change; None: they may not
    servers: dict[str, ProtocolServer] = field(default_factory=dict)    # made before this one, by name


class Groups(Protocol):
    """Groups of readers whose places a protocol keeps for itself, as operators act on them: those of Kafka."""

    def describe(self, name: str) -> Mapping[str, Any] | None:
        """What it is: kind, state, members. None: there is no such group."""

    def places(self, name: str) -> dict[Partition, int]:
        """Where it stands in each partition that it has read."""

    def refuse_change(self, name: str) -> Refusal | None:
        """Why it cannot be moved or deleted now: it has members."""

    def move(self, name: str, places: Mapping[Partition, int]) -> Ticket:
        """It reads on from there."""

    def delete(self, name: str) -> Ticket:
        """Forget it, with its places."""


class ProtocolServer(ABC):
    """One protocol of one node, whatever number of listeners it has. What is not abstract may be left as it is."""

    @abstractmethod
    async def factory(self) -> SocketFactory:
        """Called once per node, before its listeners open: what makes the asyncio.Protocol of each new connection.

        For a protocol on a byte stream: `SocketListener(…).channel` of protocols/transport/sockets.py.
        """

    @abstractmethod
    async def shutdown(self) -> None:
        """Take nobody in any more, say goodbye, and return when the last goodbye is sent. Listeners are closed already.

        Cancelled after node.stop_timeout_s. Up to its first await it runs before the mesh goes down.
        """

    @property
    def connections(self) -> int:
        """Open now. Connections of a protocol that another one carries (WebSocket in HTTP) count there."""
        return 0

    @property
    def sessions(self) -> int:
        """State of clients that outlives connections."""
        return 0

    def tick(self, now_s: float) -> None:
        """Every 50 ms. now_s: monotonic seconds."""
        return

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Group of metrics, mostly one by the protocol's name → name → number. "refused.0x87": the counter refused
        with the label 0x87. Totals, but for the names in GAUGES of mesh/management/figures/metrics.py.
        """
        return {}

    def clients(self) -> Iterable[ClientRow]:
        """One row per client, or session that is away. Keys: client_id, user, connected, address, protocol_version,
        connected_since_ms, subscriptions, in_flight, queued, write_buffer_bytes; and what else there is to say.
        Drawn from in steps, so a generator may go over many.
        """
        return ()

    def table(self, name: str) -> Iterable[Mapping[str, Any]]:
        """Rows of a table of the management API that shows what only this protocol has: exchanges, groups. Drawn from
        in steps, so a generator may go over many. Empty for a name that it does not know.
        """
        return ()

    @property
    def groups(self) -> Groups | None:
        """None: it has none of its own."""
        return None

    def kick(self, client_id: str) -> bool:
        """Close the connection of a client of clients(). False: there is none here."""
        return False

    def meet(self, peers: Peers) -> None:
        """Called once, before the node listens: by this it speaks to the same protocol on other nodes of the mesh."""
        return

    def heard(self, source: str, body: bytes) -> None:
        """Another node has said this by its Peers. Nothing in it is to be believed but who it is from."""
        return

    def consumer_deleted(self, name: str) -> None:
        """An operator has deleted a consumer; if it was of a session that is away, that ends, too."""
        return


def no_check(settings: msgspec.Struct) -> Iterable[str]:
    """Of a protocol whose settings need no more than their types and not to be negative."""
    return ()


@dataclass(frozen=True, slots=True)
class ProtocolSpec(Generic[Settings]):
    """A protocol as the node knows it before it is started."""

    name: str                       # of its listeners, its table of settings, its metrics and clients: "mqtt"
    title: str                      # for people: "MQTT"
    settings: type[Settings]        # frozen, forbid_unknown_fields, a default and a reason for each field
    make: Callable[[Parts, Settings], ProtocolServer]       # imports the server when it is called
    port: int | None = None         # of the default listener on 127.0.0.1; None: it has no listener unless configured
    schemes: tuple[str, str] = ("tcp", "tls")               # of URLs, without and with TLS
    check: Callable[[Settings], Iterable[str]] = no_check   # problems, each "name.setting: what is expected"
    listens: bool = True            # False: another protocol carries it
