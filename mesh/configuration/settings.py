"""What a configuration file may say, as typed structs. mesh/configuration decodes, checks.py checks.

Units stand in the names (…_bytes, …_s, …_ms): where a number of bytes or seconds is wanted, the file may say "64MiB"
or "10s". A test compares docs/configuration.md with these structs, so a setting cannot be added in silence.
"""
from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from mesh.connectors.kafka.settings import KafkaBridge
from mesh.connectors.webhook_settings import ConsumerTable, WebhookSettings
from mesh.identity.auth_settings import ApiKeySettings, JwtSettings, LoginSettings, OidcSettings, UserSettings
from mesh.identity.masks import MaskTable
from mesh.link.settings import LINK_PORT, LinkLimits, LinkPeerTable, LinkTable
from mesh.protocols import PROTOCOLS
from mesh.replication.settings import ReplicateSettings, ReplicationSettings
from mesh.topology.settings import MeshSettings
from mesh.values.tls import TlsSettings
from routing.rights.policy import Rule
from routing.settings import Durability, Limits

HTTP_PORT, CONSOLE_PORT = 8080, 8090


class Profile(enum.Enum):
    STANDARD = "standard"
    HARDENED = "hardened"                   # see profile.py


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this node is and where its data lives."""

    name: str = ""                          # "": the host's name
    site: str = "default"
    environment: str = ""                   # what people call this mesh: "production"; the console shows it
    profile: Profile = Profile.STANDARD
    data: str = "meshgate-data"             # relative to the configuration file
    stop_timeout_s: float = 10.0            # SIGTERM: time for goodbyes and the last flush; Docker waits 10 s


class ListenerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address to listen on."""

    bind: str                               # host:port, [v6]:port, *:port; port 0 takes a free one
    tls: TlsSettings | None = None
    insecure: bool = False                  # true: accept passwords and events in clear text from other machines


class ConsoleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The web console and the management API."""

    base_path: str = ""                     # behind a reverse proxy: what stands before our paths, "/mesh/graz"
    session_idle_s: float = 30 * 60.0       # without a request: then somebody logs in again; OWASP: 15 to 30 minutes
    session_s: float = 12 * 3_600.0         # a login lasts so long at most
    record_every_view: bool = False         # payloads are shown when the record of that is on disk; false: behind it


ListenerList: TypeAlias = ListenerSettings | tuple[ListenerSettings, ...] | None


class NodeListeners(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The node's own listeners; Listeners has those of the protocols, too.

    A listener, or a list of them. Once the table is there, what it leaves out is off.
    """

    console: ListenerList = None
    link: ListenerList = None

    def all(self) -> list[tuple[str, ListenerSettings]]:
        """(protocol, listener) in the order in which they are opened."""
        return [(protocol, listener) for protocol, listener, _ in self.placed()]

    def placed(self) -> list[tuple[str, ListenerSettings, str]]:
        """As all(), each with its path in the file: "listeners.mqtt", or "listeners.mqtt[1]" of a list."""
        found: list[tuple[str, ListenerSettings, str]] = []
        for protocol in sorted(self.__struct_fields__):
            value: ListenerList = getattr(self, protocol)
            path = f"listeners.{protocol}"
            if isinstance(value, tuple):
                found.extend((protocol, listener, f"{path}[{index}]") for index, listener in enumerate(value))
            elif value is not None:
                found.append((protocol, value, path))
        return found


if TYPE_CHECKING:
    Listeners: TypeAlias = NodeListeners
else:
    Listeners = msgspec.defstruct(
        "Listeners", [(spec.name, ListenerList, None) for spec in PROTOCOLS if spec.listens],
        bases=(NodeListeners,), namespace={"__doc__": NodeListeners.__doc__}, frozen=True, forbid_unknown_fields=True)


def default_listeners() -> Listeners:
    """On this machine only, each on the port that its clients expect."""
    return Listeners(
        console=ListenerSettings(f"127.0.0.1:{CONSOLE_PORT}"), link=ListenerSettings(f"127.0.0.1:{LINK_PORT}"),
        **{spec.name: ListenerSettings(f"127.0.0.1:{spec.port}") for spec in PROTOCOLS if spec.port is not None})


class RetentionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When old segments go. Left out: kept for ever."""

    age_ms: int | None = msgspec.field(default=None, name="age")
    size_bytes: int | None = msgspec.field(default=None, name="bytes")      # per partition


class StreamTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[streams]] table; becomes a routing.settings.StreamSettings."""

    name: str
    capture: tuple[str, ...] = ()
    partitions: int = 1
    retention: RetentionSettings = RetentionSettings()
    durability: Durability = Durability.FSYNC
    compact: bool = False
    topic: str | None = None
    segment_bytes: int = 256 * 1024 * 1024
    segment_age_ms: int = msgspec.field(default=24 * 3600 * 1000, name="segment_age")


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole configuration file, checked, but for the tables of the protocols, which Config has: [mqtt], [http] …"""

    node: NodeSettings = NodeSettings()
    listeners: Listeners = msgspec.field(default_factory=default_listeners)
    streams: tuple[StreamTable, ...] = ()
    users: tuple[UserSettings, ...] = ()
    api_keys: tuple[ApiKeySettings, ...] = ()
    jwt: tuple[JwtSettings, ...] = ()
    oidc: OidcSettings | None = None
    console: ConsoleSettings = ConsoleSettings()
    policies: tuple[Rule, ...] = ()
    masks: tuple[MaskTable, ...] = ()
    consumers: tuple[ConsumerTable, ...] = ()
    kafka_bridges: tuple[KafkaBridge, ...] = ()
    links: tuple[LinkTable, ...] = ()
    link_peers: tuple[LinkPeerTable, ...] = ()
    replicate: tuple[ReplicateSettings, ...] = ()
    logins: LoginSettings = LoginSettings()
    limits: Limits = Limits()
    webhooks: WebhookSettings = WebhookSettings()
    link: LinkLimits = LinkLimits()
    mesh: MeshSettings = MeshSettings()
    replication: ReplicationSettings = ReplicationSettings()

    def protocol(self, name: str) -> Any:
        """The settings of a protocol: of the type that its ProtocolSpec names."""
        return getattr(self, name)

    def proves(self, protocol: str) -> bool:
        """True when whoever comes to a listener of this protocol must prove who it is."""
        return bool(self.link_peers) if protocol == "link" else self.authenticates

    @property
    def authenticates(self) -> bool:
        """True when clients must say who they are; else everybody on this machine is let in."""
        return bool(self.users or self.api_keys or self.jwt)


if TYPE_CHECKING:
    Config: TypeAlias = NodeConfig
else:
    Config = msgspec.defstruct(
        "Config", [(spec.name, spec.settings, spec.settings()) for spec in PROTOCOLS],
        bases=(NodeConfig,), namespace={"__doc__": "A whole configuration file, checked."},
        frozen=True, forbid_unknown_fields=True)
