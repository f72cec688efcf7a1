"""[webhooks] and [[consumers]] of the configuration: what webhooks may do, and consumers that the operator declares."""
from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from routing.consumers.definition.members import Mode
from routing.consumers.definition.push import StrictPush
from routing.errors import TopicError
from routing.topic import check_filter, check_topic

NAME_CHARS_MAX = 128
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-")


class WebhookSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that consumers may name, and the receivers that may get what is made with it."""

    value: str                              # "file:PATH" or "env:NAME"
    urls: tuple[str, ...] = ()              # beginnings of URLs

    def __repr__(self) -> str:              # a secret never gets into a log by way of a struct
        return f"WebhookSecret(urls={self.urls!r})"


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every bound has a unit in its name. Stripe, GitHub and Standard Webhooks wait 10 to 30 s for an answer."""

    allow: tuple[str, ...] = ()             # networks beside the public ones that may be called: "10.0.0.0/8"
    https_only: bool = False                # receivers elsewhere than on this machine: over TLS alone
    secrets: dict[str, WebhookSecret] = {}
    ca: str | None = None                   # PEM file of authorities that are trusted beside the system's
    webhooks_max: int = 1_000               # consumers that push
    connect_timeout_s: float = 5.0          # DNS, TCP and TLS
    response_bytes_max: int = 64 * 1024     # of an answer is read and thrown away; beyond it the connection closes
    retry_after_max_s: float = 3_600.0      # a receiver that asks for more gets this
    breaker_failures: int = 5               # failures in a row, then nothing is sent for a while
    breaker_open_s: float = 5.0             # the first while; each one after it is twice as long
    breaker_open_max_s: float = 300.0
    handshake_age_s: float = 86_400.0       # a receiver that agreed is asked again after this


class ConsumerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[consumers]] table: the same words as PUT /v1/consumers/{name}. It reads with the rights of the node."""

    name: str
    filters: tuple[str, ...] = ()
    mode: Mode = Mode.SHARED
    start: str = "latest"                   # when it is made: latest, earliest
    streams: tuple[str, ...] = ()
    max_in_flight: int = 1_000
    ack_timeout_s: float | None = None
    max_deliveries: int | None = None
    backoff_initial_s: float = 1.0
    backoff_max_s: float = 60.0
    dead_letter_topic: str | None = None
    push: StrictPush | None = None


def check_webhooks(settings: WebhookSettings) -> Iterator[str]:
    """Problems, each with the path of its setting."""
    for index, network in enumerate(settings.allow):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield f"webhooks.allow[{index}]: expected a network such as \"10.0.0.0/8\": {error}"
    for name, secret in settings.secrets.items():
        if not secret.value.startswith(("file:", "env:")):
            yield f"webhooks.secrets.{name}.value: expected \"file:PATH\" or \"env:NAME\""
        if not secret.urls:
            yield f"webhooks.secrets.{name}.urls: name the beginnings of the URLs that may get it"
    for name in ("webhooks_max", "connect_timeout_s", "response_bytes_max", "breaker_failures", "breaker_open_s"):
        if getattr(settings, name) <= 0:
            yield f"webhooks.{name}: expected more than 0"


def check_consumers(consumers: tuple[ConsumerTable, ...]) -> Iterator[str]:
    """Problems, each with the path of its setting."""
    names: set[str] = set()
    for index, consumer in enumerate(consumers):
        path = f"consumers[{index}]"
        if not 0 < len(consumer.name) <= NAME_CHARS_MAX or not NAME_CHARACTERS.issuperset(consumer.name):
            yield f"{path}.name: at most {NAME_CHARS_MAX} letters, digits, and . _ ~ -, got {consumer.name!r}"
        if consumer.name in names:
            yield f"{path}.name: {consumer.name} is there twice"
        names.add(consumer.name)
        if not consumer.filters:
            yield f"{path}.filters: at least one topic filter"
        for number, pattern in enumerate(consumer.filters):
            try:
                check_filter(pattern)
            except TopicError as error:
                yield f"{path}.filters[{number}]: {error}"
        if consumer.start not in ("latest", "earliest"):
            yield f"{path}.start: expected \"latest\" or \"earliest\""
        if consumer.dead_letter_topic is not None:
            try:
                check_topic(consumer.dead_letter_topic)
            except TopicError as error:
                yield f"{path}.dead_letter_topic: {error}"
        for name in ("max_in_flight", "max_deliveries"):
            value = getattr(consumer, name)
            if value is not None and value < 1:
                yield f"{path}.{name}: expected at least 1"
