"""Gossip with one neighbour: what it has, what it must still get, at which pace. Sans-IO. Used by overlay.py.

A state is sent to a neighbour that does not have it and did not send it to us (split horizon). Several changes of one
node that wait become one sending; nothing waits twice. A frame that the link does not take is tried again.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mesh.link.protocol.frames import PRIORITY_GOSSIP, Gossip
from mesh.link.protocol.neighbour import Neighbour
from mesh.topology.linkstate.linkstate import LinkState
from mesh.topology.linkstate.nodestate import DIGEST_MAX, NAMES_MAX, Digest, DigestLine, Wanted, encode
from mesh.topology.linkstate.pace import Bucket

FLUSH_EVERY_S = 0.010           # gossip to one neighbour is coalesced for so long; the first of a burst goes at once
FRAME_BYTES = 64 * 1024         # a gossip frame ends at about this size, so that other traffic gets in between
BURST_S = 4                     # seconds of the rate that may go at once: a whole database when a link comes up
HAS_MAX = 4_096                 # names that a neighbour says it has and that we do not know
ASK_AGAIN_S = 0.5               # a state is not asked for more often


class Peer:
    """One link that is up."""

    def __init__(self, neighbour: Neighbour, bytes_per_s: int, now_s: float) -> None:
        self.neighbour = neighbour
        self.has: dict[str, tuple[str, int, int]] = {}      # node → boot, version, beat that it has or was sent
        self.pending: dict[str, None] = {}
        self.since_s = now_s
        self.cut = False                                    # it lied; the link layer is about to close the connection
        self.retry_s = 0.0
        self.struck_s = -1e9                                # when it sent what should not be, and that counted
        self.sent_bytes = self.received_bytes = self.refused = 0
        self.received = Bucket(2 * BURST_S * bytes_per_s, 2 * bytes_per_s, now_s)
        self._sent = Bucket(BURST_S * bytes_per_s, bytes_per_s, now_s)
        self._ready: list[bytes] = []                       # digests, requests
        self._asked: dict[str, float] = {}
        self._told_s = -1e9
        self._flushed_s = -1.0

    @property
    def busy(self) -> bool:
        return bool(self.pending or self._ready)

    def greet(self, lines: Iterable[DigestLine]) -> None:
        """Tell what we know."""
        remaining = iter(lines)
        while chunk := tuple(islice(remaining, DIGEST_MAX)):
            self._ready.append(encode(Digest(chunk)))

    def tell(self, line: DigestLine, now_s: float) -> None:
        """What others say of the neighbour itself, now and then."""
        if self._told_s + ASK_AGAIN_S <= now_s:
            self._told_s = now_s
            self._ready.append(encode(Digest((line,))))

    def ask(self, names: Iterable[str], now_s: float) -> None:
        due = [name for name in names if self._asked.get(name, -1e9) + ASK_AGAIN_S <= now_s]
        if due:
            if len(self._asked) > 4 * NAMES_MAX:
                self._asked.clear()
            self._asked.update(dict.fromkeys(due, now_s))
            for start in range(0, len(due), NAMES_MAX):
                self._ready.append(encode(Wanted(tuple(due[start:start + NAMES_MAX]))))

    def saw(self, name: str, boot: str, version: int, beat: int, states: LinkState) -> None:
        """The neighbour has this of a node."""
        has = self.has.get(name)
        if has is None and name not in states.nodes and len(self.has) >= HAS_MAX:
            return
        if has is None or has[0] != boot or (version, beat) > has[1:]:
            self.has[name] = boot, version, beat
        self.offer(name, states)

    def offer(self, name: str, states: LinkState) -> None:
        """Queue a state if the neighbour lacks it."""
        known = states.nodes.get(name)
        has = self.has.get(name)
        if known is None or (has is not None and (
                (has[2], has[0]) > known.rank if has[0] != known.boot else has[1:] >= (known.version, known.beat))):
            self.pending.pop(name, None)
        else:
            self.pending[name] = None

    def forget(self, name: str) -> None:
        self.has.pop(name, None)
        self.pending.pop(name, None)

    def due_s(self, now_s: float) -> float:
        """When flush() may send, if there is anything."""
        return max(self._flushed_s + FLUSH_EVERY_S, self.retry_s, now_s + self._sent.wait_s(now_s))

    def flush(self, states: LinkState, now_s: float) -> None:
        """Send what waits, as far as link and rate allow."""
        self._flushed_s = now_s
        while self._ready or self.pending:
            if not self._sent.take(0, now_s):
                return
            frame: list[bytes] = []
            size = self._fill(frame, self._ready_entries())
            names: list[str] = []
            while self.pending and size < FRAME_BYTES:
                name = next(iter(self.pending))
                del self.pending[name]
                known = states.nodes.get(name)
                if known is None:
                    continue
                boot, version, _ = self.has.get(name, ("", -1, -1))
                size += self._fill(frame, known.since(boot, version, now_s))
                names.append(name)
            if not frame:
                return
            if not self.neighbour.send(Gossip(frame), PRIORITY_GOSSIP):
                self.refused += 1
                self.retry_s = now_s + 0.1
                for name in names:
                    self.pending[name] = None
                self._ready = [entry for entry in frame if entry[1] in (4, 5)] + self._ready
                return
            self._sent.take(size, now_s)
            self.sent_bytes += size
            for name in names:
                known = states.nodes[name]
                self.has[name] = known.boot, known.version, known.beat

    def _ready_entries(self) -> list[bytes]:
        ready, self._ready = self._ready, []
        return ready

    @staticmethod
    def _fill(frame: list[bytes], entries: Iterable[bytes]) -> int:
        size = 0
        for entry in entries:
            frame.append(entry)
            size += len(entry)
        return size


class Timer:
    """One wake-up at a time: the earliest that was asked for. Without a call_later the ticks must do."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object] | None,
                 work: Callable[[], None]) -> None:
        self._call_later = call_later
        self._work = work
        self._due_s: float | None = None

    def at(self, due_s: float, now_s: float) -> None:
        if self._call_later is None or (self._due_s is not None and self._due_s <= due_s):
            return
        self._due_s = due_s
        self._call_later(max(0.0, due_s - now_s), lambda: self._fire(due_s))

    def _fire(self, due_s: float) -> None:
        if self._due_s == due_s:            # a later wake-up that an earlier one has overtaken does nothing
            self._due_s = None
            self._work()


def lines_of(states: LinkState) -> Iterator[DigestLine]:
    return (known.line() for known in states)
