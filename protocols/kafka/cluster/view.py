"""What a client is told of the cluster: which brokers there are, and which one leads everything."""
from __future__ import annotations

from typing import NamedTuple, Protocol

BROKER_ID = 1               # of the one broker that a node is, when it is alone
NOBODY = -1


class BrokerRow(NamedTuple):
    id: int
    host: str
    port: int


class Cluster(Protocol):
    """Of this node alone, or of several (cluster.py)."""

    @property
    def leads(self) -> bool:
        """This node serves topics and groups; else it sends clients to the one that does."""
        ...

    @property
    def my_id(self) -> int: ...

    @property
    def leader_id(self) -> int:
        """NOBODY: that is not decided."""
        ...

    def brokers(self, host: str, port: int) -> list[BrokerRow]:
        """Those that are known. host, port: what this client is told of this node."""
        ...

    def have_made(self, name: str, user: str) -> None:
        """The one that leads makes a topic that a user has begun to use here, and may."""
        ...


class Alone:
    leads = True
    my_id = leader_id = BROKER_ID

    def brokers(self, host: str, port: int) -> list[BrokerRow]:
        return [BrokerRow(BROKER_ID, host, port)]

    def have_made(self, name: str, user: str) -> None:
        return                  # it leads
