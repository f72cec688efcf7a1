"""RabbitMQ's definitions (rabbitmqctl export_definitions, or GET /api/definitions) -> what to make here. Pure.

What has a counterpart becomes a Step; what has none is said in words, with what to do instead.
"""
from __future__ import annotations

import re
import struct
from typing import Any

import msgspec

from mesh.commands.client.errors import CommandError
from protocols.amqp091.codec.codes import SoftError
from protocols.amqp091.codec.methods import ExchangeBind, ExchangeDeclare, Method, QueueBind, QueueDeclare
from protocols.amqp091.codec.tables import encode_table
from protocols.amqp091.topology.arguments import options_of
from protocols.amqp091.topology.matching import DELAYED, TYPES

DEFINITIONS_BYTES_MAX = 256 * 1024 * 1024
RESERVED = "amq."
NAME_BYTES_MAX = 255


class _Exchange(msgspec.Struct):
    name: str
    vhost: str = "/"
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = {}


class _Queue(msgspec.Struct):
    name: str
    vhost: str = "/"
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


class _Binding(msgspec.Struct):
    source: str
    destination: str
    vhost: str = "/"
    destination_type: str = "queue"
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class _User(msgspec.Struct):
    name: str
    tags: str | list[str] = ""


class _Permission(msgspec.Struct):
    user: str
    vhost: str = "/"
    configure: str = ""
    write: str = ""
    read: str = ""


class _Policy(msgspec.Struct):
    name: str
    vhost: str = "/"
    pattern: str = ""
    definition: dict[str, Any] = {}


class _Named(msgspec.Struct):
    name: str = ""
    component: str = ""


class Definitions(msgspec.Struct):
    """The parts of the file that are looked at; others are ignored."""

    rabbit_version: str = ""
    vhosts: list[_Named] = []
    users: list[_User] = []
    permissions: list[_Permission] = []
    topic_permissions: list[dict[str, Any]] = []
    parameters: list[_Named] = []
    policies: list[_Policy] = []
    exchanges: list[_Exchange] = []
    queues: list[_Queue] = []
    bindings: list[_Binding] = []


class Step(msgspec.Struct, frozen=True):
    """Something to make: text for people, and the method of AMQP that makes it."""

    text: str
    method: Method


class Plan(msgspec.Struct):
    steps: list[Step]
    gaps: list[str]             # what has no counterpart, and what to do instead
    rights: list[str]           # lines of TOML, for the configuration file


def read(raw: bytes) -> Definitions:
    """Raises CommandError."""
    try:
        return msgspec.json.decode(raw, type=Definitions)
    except msgspec.DecodeError as error:
        raise CommandError(f"these are no definitions of RabbitMQ: {error}") from error


def plan_of(found: Definitions, vhost: str) -> Plan:
    """Everything of one virtual host: this node has one."""
    plan = Plan([], [], [])
    plan.gaps += [f"vhost {one.name}: a node has one virtual host; import it on a node of its own with --vhost"
                  for one in found.vhosts if one.name != vhost]
    made: set[tuple[str, str]] = {("exchange", name) for name in ("", "amq.direct", "amq.fanout", "amq.topic",
                                                                "amq.headers", "amq.match")}
    for exchange in found.exchanges:
        if exchange.vhost == vhost and not exchange.name.startswith(RESERVED) and exchange.name:
            _plan_exchange(plan, exchange, made)
    for queue in found.queues:
        if queue.vhost == vhost:
            _plan_queue(plan, queue, made)
    for binding in found.bindings:
        if binding.vhost == vhost:
            _plan_binding(plan, binding, made)
    for policy in found.policies:
        if policy.vhost == vhost:
            plan.gaps.append(f"policy {policy.name} ({_shown(policy.definition)} for {policy.pattern}): there are no "
                             "policies over queues; give these arguments when you declare them")
    plan.gaps += [f"{one.component or 'parameter'} {one.name}: use links between nodes (docs/links.md)"
                  for one in found.parameters if one.component in ("federation-upstream", "shovel")]
    if found.topic_permissions:
        plan.gaps.append(f"{len(found.topic_permissions)} topic permissions: write policies on topics")
    _plan_users(plan, found, vhost)
    return plan


def _misfit(arguments: dict[str, Any], *names: str) -> str | None:
    """Why these cannot be sent, None: they can."""
    if any(len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX for name in names):
        return f"a name has more than {NAME_BYTES_MAX} bytes"
    try:
        encode_table(arguments)
    except (struct.error, OverflowError, ValueError, RecursionError):
        return "an argument is no value of AMQP 0-9-1"
    return None


def _plan_exchange(plan: Plan, exchange: _Exchange, made: set[tuple[str, str]]) -> None:
    misfit = _misfit(exchange.arguments, exchange.name)
    if misfit is not None:
        plan.gaps.append(f"exchange {exchange.name[:300]}: {misfit}")
        return
    kind = exchange.arguments.get("x-delayed-type") if exchange.type == DELAYED else exchange.type
    if kind not in TYPES:
        plan.gaps.append(f"exchange {exchange.name}: type {exchange.type} is not served, nor are its bindings")
        return
    made.add(("exchange", exchange.name))
    plan.steps.append(Step(f"exchange {exchange.name} ({exchange.type})", ExchangeDeclare(
        0, exchange.name, exchange.type, False, exchange.durable, exchange.auto_delete, exchange.internal, False,
        exchange.arguments)))


def _plan_queue(plan: Plan, queue: _Queue, made: set[tuple[str, str]]) -> None:
    if queue.name.startswith(RESERVED):
        plan.gaps.append(f"queue {queue.name}: named by the server; its client declares another one")
        return
    misfit = _misfit(queue.arguments, queue.name)
    if misfit is not None:
        plan.gaps.append(f"queue {queue.name[:300]}: {misfit}")
        return
    try:
        options_of(queue.arguments, queue.name, queue.vhost)
    except SoftError as error:
        plan.gaps.append(f"queue {queue.name}: {error.text.partition(' - ')[2]}")
        return
    made.add(("queue", queue.name))
    shown = f" ({_shown(queue.arguments)})" if queue.arguments else ""
    plan.steps.append(Step(f"queue {queue.name}{shown}", QueueDeclare(
        0, queue.name, False, queue.durable, False, queue.auto_delete, False, queue.arguments)))


def _plan_binding(plan: Plan, binding: _Binding, made: set[tuple[str, str]]) -> None:
    if not binding.source:                          # of every queue to the default exchange
        return
    kind = "exchange" if binding.destination_type == "exchange" else "queue"
    missing = [name for what, name in (("exchange", binding.source), (kind, binding.destination))
               if (what, name) not in made]
    text = f"binding {binding.source} → {binding.destination}" + (
        f", key {binding.routing_key}" if binding.routing_key else "")
    misfit = _misfit(binding.arguments, binding.routing_key)
    if missing or misfit is not None:
        plan.gaps.append(f"{text}: {misfit or missing[0] + ' is not made'}")
        return
    method: Method
    if kind == "exchange":
        method = ExchangeBind(0, binding.destination, binding.source, binding.routing_key, False, binding.arguments)
    else:
        method = QueueBind(0, binding.destination, binding.source, binding.routing_key, False, binding.arguments)
    plan.steps.append(Step(text, method))


# ------------------------------------------------------------------------------------------------ users and rights

def _plan_users(plan: Plan, found: Definitions, vhost: str) -> None:
    for user in found.users:
        tags = user.tags.split(",") if isinstance(user.tags, str) else user.tags
        roles = ["admin"] if "administrator" in tags else []
        plan.gaps.append(f"user {user.name}: its password cannot be read from RabbitMQ's hash; set one with "
                         f"`meshgate user add {user.name}{' --role admin' if roles else ''}`")
    names = {"exchange": [one.name for one in found.exchanges if one.vhost == vhost],
             "queue": [one.name for one in found.queues if one.vhost == vhost]}
    for permission in found.permissions:
        if permission.vhost == vhost:
            _plan_rights(plan, permission, names)


def _plan_rights(plan: Plan, permission: _Permission, names: dict[str, list[str]]) -> None:
    """RabbitMQ's patterns are looked up now: they become the names that they match today, or everything."""
    for action, pattern in (("publish", permission.write), ("subscribe", permission.read)):
        topics = _topics(pattern, names)
        if topics is None:
            plan.gaps.append(f"user {permission.user}: the pattern {pattern!r} ({action}) is not understood")
        elif topics:
            plan.rights += ["[[policies]]", f'allow = ["{action}"]', f'to = [{_toml("user:" + permission.user)}]',
                            f"topics = [{', '.join(map(_toml, topics))}]", ""]


def _topics(pattern: str, names: dict[str, list[str]]) -> list[str] | None:
    if pattern in (".*", "^.*$", "^.*"):
        return ["#", "$queue/#"]
    if pattern in ("", "^$"):
        return []
    if len(pattern) > 255 or re.search(r"[+*?}]\)?[+*{]", pattern):     # what could take for ever on a long name
        return None
    try:
        wanted = re.compile(pattern)
    except re.error:
        return None
    exchanges = [f"{name}/#" for name in names["exchange"] if name and wanted.search(name)]
    return exchanges + [f"$queue/{name}" for name in names["queue"] if wanted.search(name)]


def _toml(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _shown(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())
