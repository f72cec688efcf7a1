"""What [[links]], [[link_peers]] and [link] must hold beyond the types of their values. Called by mesh/configuration.

Each problem is one line that begins with the path of the setting.
"""
from __future__ import annotations

from collections.abc import Iterator

from mesh.link.dialling.target import NAME_MAX, exposed_in_clear, link_name, parse_proxy, parse_target
from mesh.link.protocol.peer import NAME_CHARACTERS
from mesh.link.settings import EVERY_NODE, LinkLimits, LinkPeerTable, LinkTable
from routing.errors import TopicError
from routing.topic import check_filter, check_topic

LINKS_MAX = 256
COST_MAX = 65_535

KEY_DIGITS = 64                     # of an Ed25519 public key
KEY_CHARACTERS = frozenset("0123456789abcdef")


def check_links(
    links: tuple[LinkTable, ...], peers: tuple[LinkPeerTable, ...], limits: LinkLimits, *, certificates: bool,
) -> Iterator[str]:
    """certificates: the link listener asks for client certificates."""
    names: dict[str, int] = {}
    if len(links) > LINKS_MAX:
        yield f"links: at most {LINKS_MAX}"
    for index, table in enumerate(links):
        path = f"links[{index}]"
        name = link_name(table)
        if not _is_name(name):
            yield f"{path}.name: at most {NAME_MAX} letters, digits, dots, dashes and underscores, got {name!r}"
        if name in names:
            yield f"{path}.name: {name} is already the name of links[{names[name]}]"
        names.setdefault(name, index)
        yield from _check_dialling(path, table)
        yield from _check_rules(path, table)
    for index, peer in enumerate(peers):
        path = f"link_peers[{index}]"
        if peer.node != EVERY_NODE and not _is_name(peer.node):
            yield f"{path}.node: the name of a node, or \"*\", got {peer.node!r}"
        if peer.token is not None and peer.jwt_key is not None:
            yield f"{path}: either token or jwt_key; write two tables to take both"
        if peer.token is None and peer.jwt_key is None and not certificates:
            yield f"{path}: needs token or jwt_key, or listeners.link needs tls with client_ca"
        yield from _check_rules(path, peer)
    yield from _check_limits(limits)


def _check_dialling(path: str, table: LinkTable) -> Iterator[str]:
    try:
        uri = parse_target(table)
    except ValueError as error:
        yield f"{path}.to: {error}"
        return
    if exposed_in_clear(table, uri) and not table.insecure:
        yield (f"{path}.to: {table.to} leaves this machine without TLS; "
               "use wss://, or write insecure = true to send the token and events in clear text")
    if (table.cert is None) != (table.key is None):
        yield f"{path}: cert and key belong together"
    if not uri.secure and (table.cert is not None or table.ca is not None or table.server_name is not None):
        yield f"{path}: ca, cert and server_name need wss://"
    try:
        parse_proxy(table)
    except ValueError as error:
        yield f"{path}.proxy: {error}"
    if table.proxy is None and (table.proxy_user is not None or table.proxy_password is not None):
        yield f"{path}.proxy: proxy_user and proxy_password need a proxy"
    if table.proxy_user is not None and ":" in table.proxy_user:
        yield f"{path}.proxy_user: Basic authentication has no user names with a colon"
    if table.node and not _is_name(table.node):
        yield f"{path}.node: the name of a node, got {table.node!r}"
    if not 1 <= table.cost <= COST_MAX:
        yield f"{path}.cost: expected 1 to {COST_MAX}"


def _check_rules(path: str, table: LinkTable | LinkPeerTable) -> Iterator[str]:
    if not 0 <= table.priority <= 9:
        yield f"{path}.priority: expected 0 to 9"
    if table.node_key and (len(table.node_key) != KEY_DIGITS or not KEY_CHARACTERS.issuperset(table.node_key)):
        yield f"{path}.node_key: expected {KEY_DIGITS} hexadecimal digits in small letters, as in node.pub of that node"
    if table.rate_bytes < 0:
        yield f"{path}.rate_bytes: expected at least 0"
    for key, patterns in (("export", table.exports), ("import", table.imports)):
        for number, pattern in enumerate(patterns):
            try:
                check_filter(pattern)
            except TopicError as error:
                yield f"{path}.{key}[{number}]: {error}"
    if table.prefix:
        try:
            check_topic(table.prefix)
        except TopicError as error:
            yield f"{path}.prefix: {error}"
        if table.prefix.startswith(("$", "/")) or table.prefix.endswith("/"):
            yield f"{path}.prefix: levels such as \"sites/graz\", without a slash at either end"


def _check_limits(limits: LinkLimits) -> Iterator[str]:
    for name in limits.__struct_fields__:
        value = getattr(limits, name)
        least = 0 if name in ("rate_bytes", "drain_timeout_s") else 1024 if name.endswith(("_bytes", "_bytes_max")) \
            else 1 if isinstance(value, int) else 0.01
        if value < least:
            yield f"link.{name}: expected at least {least}, got {value}"
    if limits.stale_after_s <= limits.heartbeat_s:
        yield "link.stale_after_s: expected more than link.heartbeat_s, or a quiet link is given up"
    if limits.retry_max_s < limits.retry_min_s:
        yield "link.retry_max_s: expected at least link.retry_min_s"
    if limits.frame_bytes_max > 2**30:
        yield "link.frame_bytes_max: expected at most 1GiB"


def _is_name(text: str) -> bool:
    return 0 < len(text) <= NAME_MAX and NAME_CHARACTERS.issuperset(text)
