"""Performatives, termini, outcomes, errors, SASL frames as structs. AMQP 1.0 §2.7, §3.4, §3.5, §4.5, §5.3.3. Sans-IO.

transfer, disposition and flow, of which there are many, have functions of their own in hot.py.
"""
from __future__ import annotations

from typing import Any, ClassVar

from protocols.amqp.codec.composite import Composite, register
from protocols.amqp.codec.types import Value

Fields = dict[Any, Any]

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
SENDER, RECEIVER = False, True                      # role                                             §2.8.1
UNSETTLED, SETTLED, MIXED = 0, 1, 2                 # snd-settle-mode                                  §2.8.2
FIRST, SECOND = 0, 1                                # rcv-settle-mode                                  §2.8.3


class Open(Composite):
    code: ClassVar[int] = OPEN
    name: ClassVar[str] = "amqp:open:list"
    wire: ClassVar[str] = "string! string uint ushort uint symbol* symbol* symbol* symbol* fields"
    container_id: str = ""
    hostname: str | None = None
    max_frame_size: int | None = None
    channel_max: int | None = None
    idle_time_out: int | None = None                # ms
    outgoing_locales: tuple[str, ...] = ()
    incoming_locales: tuple[str, ...] = ()
    offered_capabilities: tuple[str, ...] = ()
    desired_capabilities: tuple[str, ...] = ()
    properties: Fields | None = None


class Begin(Composite):
    code: ClassVar[int] = BEGIN
    name: ClassVar[str] = "amqp:begin:list"
    wire: ClassVar[str] = "ushort uint! uint! uint! uint symbol* symbol* fields"
    remote_channel: int | None = None
    next_outgoing_id: int = 0
    incoming_window: int = 0
    outgoing_window: int = 0
    handle_max: int | None = None
    offered_capabilities: tuple[str, ...] = ()
    desired_capabilities: tuple[str, ...] = ()
    properties: Fields | None = None


class Source(Composite):
    code: ClassVar[int] = 0x28
    name: ClassVar[str] = "amqp:source:list"
    wire: ClassVar[str] = "address uint symbol uint boolean fields symbol fields composite symbol* symbol*"
    address: str | None = None
    durable: int | None = None                      # 0 none, 1 configuration, 2 unsettled-state
    expiry_policy: str | None = None
    timeout: int | None = None                      # seconds
    dynamic: bool | None = None
    dynamic_node_properties: Fields | None = None
    distribution_mode: str | None = None            # move, copy
    filter: Fields | None = None
    default_outcome: Value = None
    outcomes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Target(Composite):
    code: ClassVar[int] = 0x29
    name: ClassVar[str] = "amqp:target:list"
    wire: ClassVar[str] = "address uint symbol uint boolean fields symbol*"
    address: str | None = None
    durable: int | None = None
    expiry_policy: str | None = None
    timeout: int | None = None
    dynamic: bool | None = None
    dynamic_node_properties: Fields | None = None
    capabilities: tuple[str, ...] = ()


class Coordinator(Composite):
    code: ClassVar[int] = 0x30
    name: ClassVar[str] = "amqp:coordinator:list"
    wire: ClassVar[str] = "symbol*"
    capabilities: tuple[str, ...] = ()


class Attach(Composite):
    code: ClassVar[int] = ATTACH
    name: ClassVar[str] = "amqp:attach:list"
    wire: ClassVar[str] = ("string! uint! boolean! ubyte ubyte composite composite fields boolean uint ulong symbol* "
                           "symbol* fields")
    link_name: str = ""
    handle: int = 0
    role: bool = SENDER
    snd_settle_mode: int | None = None
    rcv_settle_mode: int | None = None
    source: Value = None
    target: Value = None
    unsettled: Fields | None = None
    incomplete_unsettled: bool | None = None
    initial_delivery_count: int | None = None
    max_message_size: int | None = None
    offered_capabilities: tuple[str, ...] = ()
    desired_capabilities: tuple[str, ...] = ()
    properties: Fields | None = None


class Flow(Composite):
    code: ClassVar[int] = FLOW
    name: ClassVar[str] = "amqp:flow:list"
    wire: ClassVar[str] = "uint uint! uint! uint! uint uint uint uint boolean boolean fields"
    next_incoming_id: int | None = None
    incoming_window: int = 0
    next_outgoing_id: int = 0
    outgoing_window: int = 0
    handle: int | None = None
    delivery_count: int | None = None
    link_credit: int | None = None
    available: int | None = None
    drain: bool | None = None
    echo: bool | None = None
    properties: Fields | None = None


class Transfer(Composite):
    code: ClassVar[int] = TRANSFER
    name: ClassVar[str] = "amqp:transfer:list"
    wire: ClassVar[str] = "uint! uint binary uint boolean boolean ubyte composite boolean boolean boolean"
    handle: int = 0
    delivery_id: int | None = None
    delivery_tag: bytes | None = None
    message_format: int | None = None
    settled: bool | None = None
    more: bool | None = None
    rcv_settle_mode: int | None = None
    state: Value = None
    resume: bool | None = None
    aborted: bool | None = None
    batchable: bool | None = None


class Disposition(Composite):
    code: ClassVar[int] = DISPOSITION
    name: ClassVar[str] = "amqp:disposition:list"
    wire: ClassVar[str] = "boolean! uint! uint boolean composite boolean"
    role: bool = SENDER
    first: int = 0
    last: int | None = None
    settled: bool | None = None
    state: Value = None
    batchable: bool | None = None


class Error(Composite):
    code: ClassVar[int] = 0x1D
    name: ClassVar[str] = "amqp:error:list"
    wire: ClassVar[str] = "symbol! string fields"
    condition: str = ""
    description: str | None = None
    info: Fields | None = None


class Detach(Composite):
    code: ClassVar[int] = DETACH
    name: ClassVar[str] = "amqp:detach:list"
    wire: ClassVar[str] = "uint! boolean composite"
    handle: int = 0
    closed: bool | None = None
    error: Value = None


class End(Composite):
    code: ClassVar[int] = END
    name: ClassVar[str] = "amqp:end:list"
    wire: ClassVar[str] = "composite"
    error: Value = None


class Close(Composite):
    code: ClassVar[int] = CLOSE
    name: ClassVar[str] = "amqp:close:list"
    wire: ClassVar[str] = "composite"
    error: Value = None


# -- delivery states ------------------------------------------------------------------------------------------------

class Received(Composite):
    code: ClassVar[int] = 0x23
    name: ClassVar[str] = "amqp:received:list"
    wire: ClassVar[str] = "uint! ulong!"
    section_number: int = 0
    section_offset: int = 0


class Accepted(Composite):
    code: ClassVar[int] = 0x24
    name: ClassVar[str] = "amqp:accepted:list"


class Rejected(Composite):
    code: ClassVar[int] = 0x25
    name: ClassVar[str] = "amqp:rejected:list"
    wire: ClassVar[str] = "composite"
    error: Value = None


class Released(Composite):
    code: ClassVar[int] = 0x26
    name: ClassVar[str] = "amqp:released:list"


class Modified(Composite):
    code: ClassVar[int] = 0x27
    name: ClassVar[str] = "amqp:modified:list"
    wire: ClassVar[str] = "boolean boolean fields"
    delivery_failed: bool | None = None
    undeliverable_here: bool | None = None
    message_annotations: Fields | None = None


class Declared(Composite):
    code: ClassVar[int] = 0x33
    name: ClassVar[str] = "amqp:declared:list"
    wire: ClassVar[str] = "binary!"
    txn_id: bytes = b""


class TransactionalState(Composite):
    code: ClassVar[int] = 0x34
    name: ClassVar[str] = "amqp:transactional-state:list"
    wire: ClassVar[str] = "binary! composite"
    txn_id: bytes = b""
    outcome: Value = None


class Declare(Composite):
    code: ClassVar[int] = 0x31
    name: ClassVar[str] = "amqp:declare:list"
    wire: ClassVar[str] = "any"
    global_id: Value = None


class Discharge(Composite):
    code: ClassVar[int] = 0x32
    name: ClassVar[str] = "amqp:discharge:list"
    wire: ClassVar[str] = "binary! boolean"
    txn_id: bytes = b""
    fail: bool | None = None


# -- lifetime policies of dynamic nodes -------------------------------------------------------------------------------

class DeleteOnClose(Composite):
    code: ClassVar[int] = 0x2B
    name: ClassVar[str] = "amqp:delete-on-close:list"


class DeleteOnNoLinks(Composite):
    code: ClassVar[int] = 0x2C
    name: ClassVar[str] = "amqp:delete-on-no-links:list"


class DeleteOnNoMessages(Composite):
    code: ClassVar[int] = 0x2D
    name: ClassVar[str] = "amqp:delete-on-no-messages:list"


class DeleteOnNoLinksOrMessages(Composite):
    code: ClassVar[int] = 0x2E
    name: ClassVar[str] = "amqp:delete-on-no-links-or-messages:list"


# -- SASL -------------------------------------------------------------------------------------------------------------

class SaslMechanisms(Composite):
    code: ClassVar[int] = 0x40
    name: ClassVar[str] = "amqp:sasl-mechanisms:list"
    wire: ClassVar[str] = "symbol*"
    mechanisms: tuple[str, ...] = ()


class SaslInit(Composite):
    code: ClassVar[int] = 0x41
    name: ClassVar[str] = "amqp:sasl-init:list"
    wire: ClassVar[str] = "symbol! binary string"
    mechanism: str = ""
    initial_response: bytes | None = None
    hostname: str | None = None


class SaslChallenge(Composite):
    code: ClassVar[int] = 0x42
    name: ClassVar[str] = "amqp:sasl-challenge:list"
    wire: ClassVar[str] = "binary!"
    challenge: bytes = b""


class SaslResponse(Composite):
    code: ClassVar[int] = 0x43
    name: ClassVar[str] = "amqp:sasl-response:list"
    wire: ClassVar[str] = "binary!"
    response: bytes = b""


class SaslOutcome(Composite):
    code: ClassVar[int] = 0x44
    name: ClassVar[str] = "amqp:sasl-outcome:list"
    wire: ClassVar[str] = "ubyte! binary"
    outcome: int = 0
    additional_data: bytes | None = None


register((
    Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close, Error,
    Source, Target, Coordinator, Received, Accepted, Rejected, Released, Modified,
    Declared, TransactionalState, Declare, Discharge,
    DeleteOnClose, DeleteOnNoLinks, DeleteOnNoMessages, DeleteOnNoLinksOrMessages,
    SaslMechanisms, SaslInit, SaslChallenge, SaslResponse, SaslOutcome,
))

ACCEPTED = Accepted()
RELEASED = Released()
OUTCOMES = (Accepted.name, Rejected.name, Released.name, Modified.name)
