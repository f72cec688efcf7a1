"""What a configuration file may say, as typed structs. mesh/configuration decodes, checks.py checks.

Units stand in the names (…_bytes, …_s, …_ms): where a number of bytes or seconds is wanted, the file may say "64MiB"
or "10s". A test compares docs/configuration.md with these structs, so a setting cannot be added in silence.
"""
from __future__ import annotations

from typing import TypeAlias

import msgspec

from mesh.connectors.webhook_settings import ConsumerTable, WebhookSettings
from mesh.identity.auth_settings import ApiKeySettings, JwtSettings, LoginSettings
from mesh.link.settings import LINK_PORT, LinkLimits, LinkPeerTable, LinkTable
from mesh.replication.settings import ReplicateSettings, ReplicationSettings
from mesh.topology.settings import MeshSettings
from protocols.mqtt.settings import MqttSettings
from protocols.rest.settings import RestSettings
from protocols.websocket.settings import WebSocketSettings
from routing.rights.policy import Rule
from routing.settings import Durability, Limits

MQTT_PORT, HTTP_PORT, CONSOLE_PORT = 1883, 8080, 8090


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this node is and where its data lives."""

    name: str = ""                          # "": the host's name
    site: str = "default"
    environment: str = ""                   # what people call this mesh: "production"; the console shows it
    data: str = "meshgate-data"             # relative to the configuration file
    stop_timeout_s: float = 10.0            # SIGTERM: time for goodbyes and the last flush; Docker waits 10 s


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files; relative names count from the configuration file."""

    cert: str                               # chain, the node's own certificate first
    key: str
    client_ca: str | None = None            # clients must show a certificate of this authority; its CN is the user


class ListenerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address to listen on."""

    bind: str                               # host:port, [v6]:port, *:port; port 0 takes a free one
    tls: TlsSettings | None = None
    insecure: bool = False                  # true: accept passwords and events in clear text from other machines


ListenerList: TypeAlias = ListenerSettings | tuple[ListenerSettings, ...] | None


class Listeners(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One listener per protocol, or a list of them. Once the table is there, what it leaves out is off."""

    mqtt: ListenerList = None
    http: ListenerList = None
    console: ListenerList = None
    link: ListenerList = None

    def all(self) -> list[tuple[str, ListenerSettings]]:
        """(protocol, listener) in the order in which they are opened."""
        return [(protocol, listener) for protocol, listener, _ in self.placed()]

    def placed(self) -> list[tuple[str, ListenerSettings, str]]:
        """As all(), each with its path in the file: "listeners.mqtt", or "listeners.mqtt[1]" of a list."""
        found: list[tuple[str, ListenerSettings, str]] = []
        for protocol in ("console", "http", "link", "mqtt"):
            value: ListenerList = getattr(self, protocol)
            path = f"listeners.{protocol}"
            if isinstance(value, tuple):
                found.extend((protocol, listener, f"{path}[{index}]") for index, listener in enumerate(value))
            elif value is not None:
                found.append((protocol, value, path))
        return found


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


class UserSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who may connect. Without a password_hash: by client certificate only."""

    name: str
    password_hash: str | None = None        # argon2id, or "file:PATH" or "env:NAME" that hold one
    roles: tuple[str, ...] = ()

    def __repr__(self) -> str:              # a hash never gets into a log by way of a struct
        return f"UserSettings(name={self.name!r}, roles={self.roles!r})"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole configuration file, checked."""

    node: NodeSettings = NodeSettings()
    listeners: Listeners = Listeners(
        mqtt=ListenerSettings(f"127.0.0.1:{MQTT_PORT}"),
        http=ListenerSettings(f"127.0.0.1:{HTTP_PORT}"),
        console=ListenerSettings(f"127.0.0.1:{CONSOLE_PORT}"),
        link=ListenerSettings(f"127.0.0.1:{LINK_PORT}"),
    )
    streams: tuple[StreamTable, ...] = ()
    users: tuple[UserSettings, ...] = ()
    api_keys: tuple[ApiKeySettings, ...] = ()
    jwt: tuple[JwtSettings, ...] = ()
    policies: tuple[Rule, ...] = ()
    consumers: tuple[ConsumerTable, ...] = ()
    links: tuple[LinkTable, ...] = ()
    link_peers: tuple[LinkPeerTable, ...] = ()
    replicate: tuple[ReplicateSettings, ...] = ()
    logins: LoginSettings = LoginSettings()
    limits: Limits = Limits()
    mqtt: MqttSettings = MqttSettings()
    http: RestSettings = RestSettings()
    websocket: WebSocketSettings = WebSocketSettings()
    webhooks: WebhookSettings = WebhookSettings()
    link: LinkLimits = LinkLimits()
    mesh: MeshSettings = MeshSettings()
    replication: ReplicationSettings = ReplicationSettings()

    def proves(self, protocol: str) -> bool:
        """True when whoever comes to a listener of this protocol must prove who it is."""
        return bool(self.link_peers) if protocol == "link" else self.authenticates

    @property
    def authenticates(self) -> bool:
        """True when clients must say who they are; else everybody on this machine is let in."""
        return bool(self.users or self.api_keys or self.jwt)
