"""What a configuration must hold beyond the types of its values. Called by config.py; returns problems, raises nothing.

Each problem is one line that begins with the path of the setting.
"""
from __future__ import annotations

from collections.abc import Iterator

from mesh.configuration import profile
from mesh.configuration.settings import Config, ListenerSettings, StreamTable
from mesh.connectors.kafka.settings import check_bridges
from mesh.connectors.webhook_settings import check_consumers, check_webhooks
from mesh.identity.auth_settings import UserSettings, check_api_keys, check_jwt, check_oidc, user_problem
from mesh.identity.masks import check_masks
from mesh.identity.users import check_password_hash
from mesh.link.check import check_links
from mesh.protocols import PROTOCOLS
from mesh.replication.check import check_replication
from mesh.topology.check import check_mesh
from mesh.values.address import is_loopback, parse_bind
from mesh.values.secret import resolve_secret as resolve_secret
from routing.errors import TopicError
from routing.log.records.codecs import EXPANDED_BYTES_MAX
from routing.rights.policy import ANONYMOUS, Rule
from routing.topic import TOPIC_LEVELS_MAX, check_filter

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
STREAM_NAME_MAX = 249           # Kafka's limit for a topic name: its clients see a stream as one
NODE_NAME_MAX = 64
BASE_PATH_MAX = 200
SESSION_S_MAX = 30 * 86_400
PARTITIONS_MAX = 1_024          # open files and memory per partition; one node needs few
SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX = 64 * 1024, 2**31 - 1     # Kafka's positions in a segment are 32 bits
LOGIN_THREADS_MAX = 64
SUBJECTS = ("user:", "role:")
EXPECTED_SUBJECT = '"user:NAME", "role:NAME", "anonymous" or "*"'


def check_config(config: Config) -> list[str]:
    """All problems of a configuration, in the order of the file's tables."""
    return [
        *_check_node(config), *_check_listeners(config), *_check_console(config), *_check_sessions(config),
        *_check_streams(config.streams),
        *_check_users(config.users), *check_api_keys(config.api_keys), *check_jwt(config.jwt),
        *check_oidc(config.oidc, config.jwt),
        *check_consumers(config.consumers), *check_webhooks(config.webhooks),
        *check_bridges(config.kafka_bridges),
        *_check_policies(config.policies), *check_masks(config.masks), *_check_limits(config), *_check_links(config),
        *check_replication(config.replicate, config.replication), *check_mesh(config.mesh),
        *profile.problems(config),
    ]


def _check_node(config: Config) -> Iterator[str]:
    node = config.node
    if node.name and not _is_name(node.name, NODE_NAME_MAX):
        yield f"node.name: at most {NODE_NAME_MAX} letters, digits, dots, dashes and underscores, got {node.name!r}"
    if node.environment and not _is_name(node.environment, NODE_NAME_MAX):
        yield f"node.environment: at most {NODE_NAME_MAX} letters, digits, dots, dashes and underscores"
    if not _is_name(node.site, NODE_NAME_MAX):
        yield f"node.site: at most {NODE_NAME_MAX} letters, digits, dots, dashes and underscores, got {node.site!r}"
    if not node.data:
        yield "node.data: must not be empty"
    if not 0 <= node.stop_timeout_s <= 3_600:
        yield "node.stop_timeout_s: expected 0 to 3600 seconds"


def _check_listeners(config: Config) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {}
    for protocol, listener, path in config.listeners.placed():
        try:
            host, port = parse_bind(listener.bind)
        except ValueError as error:
            yield f"{path}.bind: {error}"
            continue
        if port and (host, port) in taken:
            yield f"{path}.bind: {listener.bind} is taken by {taken[host, port]}"
        taken[host, port] = path
        if not is_loopback(host):
            yield from _check_exposed(path, protocol, listener, config.proves(protocol))


def _check_console(config: Config) -> Iterator[str]:
    base = config.console.base_path
    segments = base.split("/")[1:]
    if base and (not base.startswith("/") or len(base) > BASE_PATH_MAX or not all(map(_is_segment, segments))):
        yield ("console.base_path: begins with a slash and ends without one, such as \"/mesh/graz\"; between them "
               f"letters, digits, dots, dashes and underscores; at most {BASE_PATH_MAX} characters; got {base[:300]!r}")


def _check_sessions(config: Config) -> Iterator[str]:
    for name, least in (("session_idle_s", 10), ("session_s", 60)):
        if not least <= getattr(config.console, name) <= SESSION_S_MAX:
            yield f"console.{name}: expected {least} to {SESSION_S_MAX} seconds"


def _is_segment(text: str) -> bool:
    return _is_name(text, BASE_PATH_MAX) and text.strip(".") != ""


def _check_links(config: Config) -> Iterator[str]:
    link = config.listeners.link
    listeners = link if isinstance(link, tuple) else () if link is None else (link,)
    certificates = bool(listeners) and all(
        listener.tls is not None and listener.tls.client_ca is not None for listener in listeners)
    yield from check_links(config.links, config.link_peers, config.link, certificates=certificates)


def _check_exposed(path: str, protocol: str, listener: ListenerSettings, proves: bool) -> Iterator[str]:
    """A listener that other machines can reach: who comes must be known, and what is said must not be readable."""
    if protocol == "link" and not proves:
        yield (f"{path}.bind: {listener.bind} can be reached from other machines, but any node may link; "
               "add [[link_peers]], or bind to 127.0.0.1")
    elif not proves and (listener.tls is None or listener.tls.client_ca is None):
        yield (f"{path}.bind: {listener.bind} can be reached from other machines, but nobody has to log in; "
               "add [[users]], [[api_keys]] or [[jwt]], or tls with client_ca, or bind to 127.0.0.1")
    if listener.tls is None and not listener.insecure:
        yield (f"{path}.bind: {listener.bind} can be reached from other machines without TLS; "
               "add tls = { cert, key }, or write insecure = true to accept passwords and events in clear text")


def _check_streams(streams: tuple[StreamTable, ...]) -> Iterator[str]:
    names: dict[str, int] = {}
    captures: dict[str, str] = {}
    for index, stream in enumerate(streams):
        path = f"streams[{index}]"
        if not _is_name(stream.name, STREAM_NAME_MAX) or stream.name in (".", "..") or stream.name.startswith("_"):
            yield (f"{path}.name: at most {STREAM_NAME_MAX} letters, digits, dots, dashes and underscores, "
                   f"not beginning with an underscore, got {stream.name!r}")
        if stream.name in names:
            yield f"{path}.name: {stream.name} is already the name of streams[{names[stream.name]}]"
        names.setdefault(stream.name, index)
        yield from _check_capture(path, stream, captures)
        yield from _check_log(path, stream)


def _check_capture(path: str, stream: StreamTable, captures: dict[str, str]) -> Iterator[str]:
    if not stream.capture:
        yield f"{path}.capture: at least one topic filter, such as [\"{stream.name}/#\"]"
    for number, pattern in enumerate(stream.capture):
        place = f"{path}.capture[{number}]"
        try:
            check_filter(pattern)
        except TopicError as error:
            yield f"{place}: {error}"
        if pattern.startswith("$"):
            yield f"{place}: topics that begin with $ belong to the node and are not kept"
        if pattern in captures:
            yield f"{place}: {pattern} is captured by {captures[pattern]} already; an event belongs to one stream"
        captures.setdefault(pattern, place)


def _check_log(path: str, stream: StreamTable) -> Iterator[str]:
    if not 1 <= stream.partitions <= PARTITIONS_MAX:
        yield f"{path}.partitions: expected 1 to {PARTITIONS_MAX}, got {stream.partitions}"
    if stream.retention.age_ms is not None and stream.retention.age_ms < 1_000:
        yield f"{path}.retention.age: expected at least 1s"
    if not SEGMENT_BYTES_MIN <= stream.segment_bytes <= SEGMENT_BYTES_MAX:
        yield f"{path}.segment_bytes: expected 64KiB to 2GiB, got {stream.segment_bytes}"
    if stream.segment_age_ms < 1_000:
        yield f"{path}.segment_age: expected at least 1s"
    if stream.retention.size_bytes is not None and stream.retention.size_bytes < SEGMENT_BYTES_MIN:
        yield f"{path}.retention.bytes: expected at least 64KiB, whole segments are dropped"
    if stream.topic is not None and ("+" in stream.topic or "#" in stream.topic or not stream.topic):
        yield f"{path}.topic: a topic, in which {{key}} may stand for the record's key"


def _check_users(users: tuple[UserSettings, ...]) -> Iterator[str]:
    names: set[str] = set()
    for index, user in enumerate(users):
        path = f"users[{index}]"
        problem = user_problem(user.name)
        if problem is not None:
            yield f"{path}.name: {problem}"
        if user.name in names:
            yield f"{path}.name: {user.name} is there twice"
        names.add(user.name)
        if user.password_hash is None:
            continue
        if user.password_hash.startswith(("env:", "file:")):
            continue                        # resolved when the node starts or `meshgate check` runs
        problem = check_password_hash(user.password_hash)
        if problem is not None:
            yield f"{path}.password_hash: {problem}"


def _check_policies(policies: tuple[Rule, ...]) -> Iterator[str]:
    for index, policy in enumerate(policies):
        path = f"policies[{index}]"
        if not policy.allow and not policy.deny:
            yield f"{path}: needs allow or deny, such as allow = [\"publish\", \"subscribe\"]"
        if policy.allow and policy.deny:
            yield f"{path}: either allow or deny; write two rules"
        if not policy.to:
            yield f"{path}.to: expected at least one {EXPECTED_SUBJECT}"
        for number, subject in enumerate(policy.to):
            if subject not in ("*", ANONYMOUS) and not (subject.startswith(SUBJECTS) and subject.partition(":")[2]):
                yield f"{path}.to[{number}]: expected {EXPECTED_SUBJECT}, got {subject!r}"
            if "%u" in subject or ("%c" in subject and not subject.startswith("user:")):
                yield f"{path}.to[{number}]: the only mark here is %c, in user:NAME; got {subject!r}"
        for number, pattern in enumerate(policy.topics):
            try:
                check_filter(pattern.replace("%u", "u").replace("%c", "c"))
            except TopicError as error:
                yield f"{path}.topics[{number}]: {error}"


def _check_limits(config: Config) -> Iterator[str]:
    for spec in PROTOCOLS:
        yield from spec.check(config.protocol(spec.name))
    for table, least in (("limits", 1), ("logins", 0), *((spec.name, 0) for spec in PROTOCOLS)):
        settings = getattr(config, table)
        for name in settings.__struct_fields__:
            value = getattr(settings, name)
            if isinstance(value, (int, float)) and value < (least if isinstance(value, int) else 0):
                yield f"{table}.{name}: expected at least {least}, got {value}"
    for name in ("waiting_max", "remembered_max"):
        if getattr(config.logins, name) < 1:
            yield f"logins.{name}: expected at least 1"
    if config.logins.threads > LOGIN_THREADS_MAX:
        yield f"logins.threads: expected at most {LOGIN_THREADS_MAX}"
    if not 0 < config.limits.user_share <= 1:
        yield "limits.user_share: expected above 0, at most 1"
    if config.limits.expanded_bytes_max > EXPANDED_BYTES_MAX:
        yield f"limits.expanded_bytes_max: expected at most {EXPANDED_BYTES_MAX} bytes"
    if config.limits.topic_levels_max > TOPIC_LEVELS_MAX:
        yield f"limits.topic_levels_max: expected at most {TOPIC_LEVELS_MAX}"


def _is_name(text: str, length_max: int) -> bool:
    return 0 < len(text) <= length_max and NAME_CHARACTERS.issuperset(text)
