"""Producer ids and transactions: the coordinator of a node.

    transaction/<transactional id>      who has it (producer id, epoch), how far its transaction is, and where it wrote
    producer-ids                        ids below this number may have been given out

    EMPTY ── add_partitions ──► ONGOING ── end ──► PREPARE_COMMIT / PREPARE_ABORT ── markers ──► COMPLETE_…
                                   └── timeout, or a new producer of the same id: abort, under a higher epoch ──┘

What decides is the record PREPARE_…: once it is durable, the markers are written to every partition, again and again
until each is durable, also by the next start. What is to become true with a commit (offsets of groups) waits in the
record and is stored in the same batch as the decision: so all of it happens, or none.

Open transactions outlive the node: who opened one may end it afterwards. Sources: KIP-98, KIP-360. Not done: KIP-890
part 2 (an epoch per transaction), because clients decide by versions that are not announced.
"""
from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.errors import Fault, Reason, Refusal
from routing.fairness.shares import Share
from routing.log.producing.markers import ABORT, COMMIT
from routing.settings import Limits
from routing.ticket import Ticket, done_ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.state import StateTable
    from routing.streams.streams import StreamTable

log = logging.getLogger(__name__)

TRANSACTION = "transaction/"
IDS_KEY = "producer-ids"
IDS_BLOCK = 1_000                   # ids noted ahead: a crash leaves out so many
EPOCH_MAX = 32_766                  # then the transactional id gets another producer id
EXPIRE_MS = 7 * 24 * 3600 * 1000    # Kafka's transactional.id.expiration.ms
MARKERS_AGAIN_S = 1.0               # after a partition would not take one
CHECK_S = 0.5


class State(enum.IntEnum):
    """Kafka's names."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5


PREPARED = (State.PREPARE_COMMIT, State.PREPARE_ABORT)
Place = tuple[str, int]             # stream, partition


class Transaction(msgspec.Struct, array_like=True):
    """What is stored of a transactional id."""

    producer_id: int
    epoch: int
    timeout_ms: int
    state: State = State.EMPTY
    partitions: list[Place] = []
    began_ms: int = 0                           # wall clock, for people
    began_steady_ms: int = 0
    pending: dict[str, bytes] = {}              # state records that are stored with the commit
    incarnations: dict[str, bytes] = {}         # of the streams in it: one that was made again is another one
    used_steady_ms: int = 0
    owner: str = ""                             # the user who has it


class Init(msgspec.Struct):
    """The answer of init(): complete when ticket is. ticket.refusals.get(0) says why there is none."""

    ticket: Ticket
    producer_id: int = -1
    epoch: int = -1


class Desk(Protocol):
    """What is needed of the router."""

    state: StateTable
    streams: StreamTable
    limits: Limits
    clock_ms: Callable[[], int]
    steady_ms: Callable[[], int]

    def request_turn(self) -> None: ...


class Transactions:
    """Loop thread only."""

    def __init__(self, desk: Desk) -> None:
        self.by_id: dict[str, Transaction] = {}
        self._ids = Share("transactional ids", lambda: desk.limits.user_share)
        self._bytes = Share("bytes that wait for the end of transactions", lambda: desk.limits.user_share)
        self.on_stored: list[Callable[[Mapping[str, bytes]], None]] = []    # told of pending records that now count
        self._desk = desk
        self._by_producer: dict[int, str] = {}
        self._waiting: dict[str, list[Callable[[], None]]] = {}     # until the transaction that is being ended is
        self._next_id = int(desk.state.get(IDS_KEY) or b"0")
        self._noted_ids = self._next_id
        self._ids_ticket = Ticket(())                   # of the number that is noted
        self._ids_ticket.part_done()
        self._again: dict[str, float] = {}
        self._told: dict[str, Mapping[str, bytes]] = {}     # pending records of a commit that is under way
        self._check_due_s = 0.0
        for key, found in desk.state.decoded(TRANSACTION, Transaction, "transaction"):
            self.by_id[key] = found
            self._by_producer[found.producer_id] = key
            self._ids.add(found.owner)
            self._bytes.add(found.owner, _size(found.pending))

    def restore(self) -> None:
        """Go on with what was decided before the node ended. Called once, when all streams are open."""
        for transactional_id, found in self.by_id.items():
            if found.state in PREPARED:
                self._write_markers(transactional_id, found)

    # -- producers --------------------------------------------------------------------------------------------

    def init(self, transactional_id: str | None, timeout_ms: int = 0, *, producer_id: int = -1, epoch: int = -1,
             owner: str = "") -> Init:
        """A producer begins. None: an idempotent one, which gets a fresh id.

        Whoever had the transactional id is fenced, and its open transaction aborted first. producer_id and epoch: what
        the producer has, when it begins anew after an error (KIP-360).
        """
        made = Init(Ticket(()))
        if transactional_id is None:
            self._give_id(made, made.ticket)
            return made
        if not 0 < timeout_ms <= self._desk.limits.transaction_timeout_max_ms:
            return self._refuse_init(made, Fault.TIMEOUT, f"a transaction timeout of {timeout_ms} ms, at most "
                                     f"{self._desk.limits.transaction_timeout_max_ms} are taken")
        found = self.by_id.get(transactional_id)
        if found is None:
            refusal = self._ids.take(owner, self._desk.limits.transactional_ids_max)
            if refusal is not None:
                return self._refuse_init(made, None, f"{refusal.text} (limits.transactional_ids_max)")
            found = Transaction(-1, -1, timeout_ms, owner=owner)
            self.by_id[transactional_id] = found
            self._renew(transactional_id, found, timeout_ms, made)
            return made
        if producer_id >= 0 and (producer_id != found.producer_id or epoch not in (found.epoch, found.epoch - 1)):
            return self._refuse_init(made, Fault.EPOCH, f"epoch {epoch} of producer {producer_id} is over")
        if found.state is State.ONGOING:
            self._end_under_new_epoch(transactional_id, found)
        if found.state in PREPARED:
            self._waiting.setdefault(transactional_id, []).append(
                lambda: self._renew(transactional_id, found, timeout_ms, made))
        else:
            self._renew(transactional_id, found, timeout_ms, made)
        return made

    def _refuse_init(self, made: Init, fault: Fault | None, text: str) -> Init:
        made.ticket.refusals[0] = Refusal(
            Reason.QUOTA_EXCEEDED if fault is None else Reason.CONFLICT, text, fault=fault)
        made.ticket.part_done()
        return made

    def _renew(self, transactional_id: str, found: Transaction, timeout_ms: int, made: Init) -> None:
        """The next epoch, or a new producer id; and answer with it."""
        if found.producer_id < 0 or found.epoch >= EPOCH_MAX:
            self._by_producer.pop(found.producer_id, None)
            found.producer_id, found.epoch = self._take_id(), 0
            self._by_producer[found.producer_id] = transactional_id
        else:
            found.epoch += 1
        found.timeout_ms = timeout_ms
        self._let_go(found)
        found.state, found.partitions = State.EMPTY, []
        made.producer_id, made.epoch = found.producer_id, found.epoch
        self._put(transactional_id, found).on_done(lambda done: _pass_on(done, made.ticket))

    def _give_id(self, made: Init, ticket: Ticket) -> None:
        made.producer_id, made.epoch = self._take_id(), 0
        self._ids_ticket.on_done(lambda done: _pass_on(done, ticket))

    def _take_id(self) -> int:
        producer_id = self._next_id
        self._next_id += 1
        if producer_id >= self._noted_ids or self._ids_ticket.refusals:
            self._noted_ids = producer_id + IDS_BLOCK
            self._ids_ticket = self._desk.state.put(IDS_KEY, b"%d" % self._noted_ids)
        return producer_id

    # -- in a transaction -------------------------------------------------------------------------------------

    def add_partitions(self, transactional_id: str, producer_id: int, epoch: int, places: Iterable[Place]) -> Ticket:
        """Partitions that the producer is about to write to. They must exist."""
        places = list(places)
        for stream, index in places:
            if self._desk.streams.partition(stream, index) is None:
                return done_ticket(Refusal(Reason.NOT_FOUND, f"there is no partition {index} of {stream}"))
        found = self._ongoing(transactional_id, producer_id, epoch)
        if isinstance(found, Refusal):
            return done_ticket(found)
        known = set(found.partitions)
        fresh = [place for place in dict.fromkeys(places) if place not in known]
        if not fresh and found.state is State.ONGOING:
            return self._when_stored()
        found.partitions = found.partitions + fresh
        found.incarnations = found.incarnations | {
            stream: self._desk.streams.by_name[stream].incarnation for stream, _ in fresh}
        return self._begin(transactional_id, found)

    def unsettled(self) -> set[str]:
        """Keys of the records that wait for the end of a transaction: they count, or not, once it is over."""
        keys: set[str] = set()
        for found in self.by_id.values():
            if found.pending:
                keys.update(found.pending)
        for records in self._told.values():
            keys.update(records)
        return keys

    def add_state(self, transactional_id: str, producer_id: int, epoch: int, records: Mapping[str, bytes]) -> Ticket:
        """Records of the state table that are to be stored if it commits, such as offsets of a group; none: begin only.
        """
        found = self._ongoing(transactional_id, producer_id, epoch)
        if isinstance(found, Refusal):
            return done_ticket(found)
        wanted = {**found.pending, **records}
        limits, more = self._desk.limits, _size(wanted) - _size(found.pending)
        if _size(wanted) > limits.transaction_bytes_max:
            return done_ticket(Refusal(Reason.PAYLOAD_TOO_LARGE, f"{_size(wanted)} bytes wait for the end of the "
                                       "transaction (limits.transaction_bytes_max)", fault=Fault.TOO_LARGE))
        if more > 0 and (full := self._bytes.take(found.owner, limits.transactions_bytes_max, more)) is not None:
            return done_ticket(Refusal(Reason.PAYLOAD_TOO_LARGE, f"{full.text} (limits.transactions_bytes_max)",
                                       fault=Fault.TOO_LARGE))
        if more < 0:
            self._bytes.give(found.owner, -more)
        found.pending = wanted
        return self._begin(transactional_id, found)

    def _begin(self, transactional_id: str, found: Transaction) -> Ticket:
        if found.state is not State.ONGOING:
            found.state = State.ONGOING
            found.began_ms, found.began_steady_ms = self._desk.clock_ms(), self._desk.steady_ms()
        return self._put(transactional_id, found)

    def _ongoing(self, transactional_id: str, producer_id: int, epoch: int) -> Transaction | Refusal:
        """The transaction, if this producer has it and it takes more."""
        found = self._own(transactional_id, producer_id, epoch)
        if isinstance(found, Transaction) and found.state in PREPARED:
            return Refusal(Reason.CONFLICT, "the last transaction is still being ended; try again", 1, Fault.BUSY)
        if isinstance(found, Transaction) and found.state is not State.ONGOING:
            self._let_go(found)
            found.partitions, found.incarnations = [], {}
        return found

    def _let_go(self, found: Transaction) -> dict[str, bytes]:
        """What waits with it does not any more. Returns that."""
        pending, found.pending = found.pending, {}
        if pending:
            self._bytes.give(found.owner, _size(pending))
        return pending

    def _own(self, transactional_id: str, producer_id: int, epoch: int) -> Transaction | Refusal:
        found = self.by_id.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return Refusal(Reason.CONFLICT, f"{transactional_id} does not belong to producer {producer_id}",
                           fault=Fault.UNKNOWN_PRODUCER)
        if found.epoch != epoch:
            return Refusal(Reason.CONFLICT, f"epoch {epoch} of producer {producer_id} is not {found.epoch}",
                           fault=Fault.EPOCH)
        return found

    def refuse_batch(self, producer_id: int, epoch: int, stream: str, index: int) -> Refusal | None:
        """Why a batch of a transaction may not come into this partition."""
        found = self.by_id.get(self._by_producer.get(producer_id, ""))
        if found is None or found.epoch > epoch:
            return Refusal(Reason.CONFLICT, f"epoch {epoch} of producer {producer_id} is over", fault=Fault.EPOCH)
        if found.epoch != epoch or found.state is not State.ONGOING or (stream, index) not in found.partitions:
            return Refusal(Reason.CONFLICT, f"no transaction of producer {producer_id} is open on {stream}/{index}",
                           fault=Fault.TRANSACTION)
        return None

    # -- the end ----------------------------------------------------------------------------------------------

    def end(self, transactional_id: str, producer_id: int, epoch: int, *, commit: bool) -> Ticket:
        """Commit or abort. Done when every reader may see it, or see past it; the same call again answers the same."""
        found = self._own(transactional_id, producer_id, epoch)
        if isinstance(found, Refusal):
            return done_ticket(found)
        wanted = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        complete = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        if found.state is complete:
            return self._when_stored()
        if found.state in PREPARED and found.state is wanted:
            return self._when_ended(transactional_id)
        if found.state is not State.ONGOING:
            return done_ticket(Refusal(Reason.CONFLICT, f"{transactional_id} has no open transaction to "
                                       f"{'commit' if commit else 'abort'} ({found.state.name.lower()})",
                                    fault=Fault.TRANSACTION))
        ticket = self._when_ended(transactional_id)
        self._prepare(transactional_id, found, wanted)
        return ticket

    def _when_stored(self) -> Ticket:
        """Nothing is to be done, but what was done before may be on its way to the disk."""
        ticket = Ticket(())
        self._desk.state.when_stored(ticket.part_done)
        return ticket

    def _when_ended(self, transactional_id: str) -> Ticket:
        ticket = Ticket(())
        self._waiting.setdefault(transactional_id, []).append(ticket.part_done)
        return ticket

    def _end_under_new_epoch(self, transactional_id: str, found: Transaction) -> None:
        """Abort what somebody left open; its producer is fenced."""
        found.epoch += 1
        self._prepare(transactional_id, found, State.PREPARE_ABORT)

    def _prepare(self, transactional_id: str, found: Transaction, state: State) -> None:
        """Decide. The records that wait for a commit are stored in the same batch as the decision."""
        found.state = state
        pending = self._let_go(found)
        if state is State.PREPARE_COMMIT:
            for key, value in pending.items():
                if value:
                    self._desk.state.put(key, value)
                else:
                    self._desk.state.delete(key)
            if pending:
                self._told[transactional_id] = pending
        self._decide(transactional_id, found)

    def _decide(self, transactional_id: str, found: Transaction) -> None:
        """Store the decision, then the markers."""
        def decided(done: Ticket) -> None:
            if done.refusals:                           # such as by a full disk: the tick tries again
                self._again[transactional_id] = 0.0
            else:
                self._write_markers(transactional_id, found)

        self._put(transactional_id, found).on_done(decided)

    def _write_markers(self, transactional_id: str, found: Transaction) -> None:
        kind = COMMIT if found.state is State.PREPARE_COMMIT else ABORT
        ticket = Ticket(())
        for partition in self._partitions(found):
            partition.append_marker(found.producer_id, found.epoch, kind, ticket)
        ticket.on_done(lambda done: self._written(transactional_id, found, done))
        ticket.part_done()
        self._desk.request_turn()

    def _partitions(self, found: Transaction) -> list[Partition]:
        """Those that are still there; a stream that was made again is another one."""
        partitions = []
        for stream, index in found.partitions:
            partition = self._desk.streams.partition(stream, index)
            if partition is not None and (
                    self._desk.streams.by_name[stream].incarnation == found.incarnations.get(stream)):
                partitions.append(partition)
        return partitions

    def _written(self, transactional_id: str, found: Transaction, done: Ticket) -> None:
        if any(part.refusal is not None and part.refusal.reason is not Reason.NOT_FOUND for part in done.parts):
            self._again[transactional_id] = 0.0         # set when the tick sees it
            return
        found.state = State.COMPLETE_COMMIT if found.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT
        found.partitions, found.incarnations = [], {}
        self._put(transactional_id, found)
        pending = self._told.pop(transactional_id, None)
        for told in self.on_stored if pending else ():
            told(pending or {})
        for go_on in self._waiting.pop(transactional_id, ()):
            go_on()

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Time-outs, and markers that could not be written."""
        if now_s < self._check_due_s:
            return
        self._check_due_s = now_s + CHECK_S
        for transactional_id, due_s in list(self._again.items()):
            if not due_s:
                self._again[transactional_id] = now_s + MARKERS_AGAIN_S
            elif now_s >= due_s:
                del self._again[transactional_id]
                found = self.by_id.get(transactional_id)
                if found is not None and found.state in PREPARED:
                    self._decide(transactional_id, found)
        steady_ms = self._desk.steady_ms()
        for transactional_id, found in list(self.by_id.items()):
            if found.state is State.ONGOING and steady_ms - found.began_steady_ms > found.timeout_ms:
                log.warning("transaction %s: open for more than %d ms: aborted", transactional_id, found.timeout_ms)
                self._end_under_new_epoch(transactional_id, found)
            elif (found.state not in PREPARED and found.state is not State.ONGOING
                    and steady_ms - found.used_steady_ms > EXPIRE_MS):
                del self.by_id[transactional_id]
                self._ids.give(found.owner)
                self._let_go(found)
                self._by_producer.pop(found.producer_id, None)
                self._desk.state.delete(TRANSACTION + transactional_id)

    def _put(self, transactional_id: str, found: Transaction) -> Ticket:
        found.used_steady_ms = self._desk.steady_ms()
        return self._desk.state.put(TRANSACTION + transactional_id, msgspec.msgpack.encode(found))


def _size(pending: Mapping[str, bytes]) -> int:
    return sum(len(key) + len(value) for key, value in pending.items())


def _pass_on(done: Ticket, ticket: Ticket) -> None:
    if done.refusals:
        ticket.refusals[0] = next(iter(done.refusals.values()))
    ticket.part_done()
