"""Strangers: connections of the link listener that nobody has admitted yet. Who has to go when there are too many?

A neighbour that comes in the middle of a flood must get through: it sends its opening at once, and is admitted after
two round trips. So who has sent nothing goes first; who has shown a good proof (and waits for his rivals to answer)
never goes; nor does the one who waits longest with progress. Among the others the lot decides: whoever comes again has
the same chance each time, however many others come. The lot is drawn among those of the address that has the most, so
a flood from one place does not reach those of another.
"""
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from protocols.transport.network import network_of


class Connection(Protocol):
    """What of transport.LinkConnection is asked."""

    remote: str

    @property
    def is_ending(self) -> bool: ...
    @property
    def is_open(self) -> bool: ...          # the opening handshake of its WebSocket is done
    @property
    def is_proven(self) -> bool: ...


def choose(strangers: Sequence[Connection], newcomer: str, rng: random.Random) -> int | None:
    """Index of who goes, None: the newcomer is turned away. strangers: in the order in which they came. newcomer: its
    address.
    """
    ending = next((index for index, one in enumerate(strangers) if one.is_ending), None)
    if ending is not None:
        return ending
    networks = [network_of(one.remote) for one in strangers]
    counts: dict[str, int] = {}
    for network in (*networks, network_of(newcomer)):
        counts[network] = counts.get(network, 0) + 1
    most = max(counts.values())
    crowd = [index for index, one in enumerate(strangers) if counts[networks[index]] == most and not one.is_proven]
    silent = [index for index in crowd if not strangers[index].is_open]
    if silent:
        return silent[0]
    oldest = next((index for index, one in enumerate(strangers) if one.is_open and not one.is_proven), None)
    crowd = [index for index in crowd if index != oldest]
    return rng.choice(crowd) if crowd else None
