"""File names in [webhooks] and [[consumers]] that count from the configuration file, made absolute."""
from __future__ import annotations

from pathlib import Path

import msgspec

from mesh.connectors.webhook_settings import ConsumerTable, WebhookSettings

FILE = "file:"


def absolute_webhooks(settings: WebhookSettings, base: Path) -> WebhookSettings:
    secrets = {
        name: msgspec.structs.replace(secret, value=_reference(secret.value, base))
        for name, secret in settings.secrets.items()
    }
    ca = None if settings.ca is None else _absolute(settings.ca, base)
    return msgspec.structs.replace(settings, secrets=secrets, ca=ca)


def absolute_consumer(consumer: ConsumerTable, base: Path) -> ConsumerTable:
    push = consumer.push
    if push is None:
        return consumer
    headers = {name: _reference(value, base) for name, value in push.headers.items()}
    secret = None if push.secret is None else _reference(push.secret, base)
    return msgspec.structs.replace(consumer, push=msgspec.structs.replace(push, headers=headers, secret=secret))


def _reference(text: str, base: Path) -> str:
    return FILE + _absolute(text[len(FILE):], base) if text.startswith(FILE) else text


def _absolute(name: str, base: Path) -> str:
    return str((base / Path(name).expanduser()).resolve())
