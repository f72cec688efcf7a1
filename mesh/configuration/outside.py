"""What a configuration points to outside of itself: secrets and certificates, read and checked before they are used."""
from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from mesh.configuration.profile import open_keys
from mesh.connectors.kafka.bridges import PreparedBridges
from mesh.connectors.webhooks import Prepared
from mesh.identity.apikeys import resolve_api_keys
from mesh.identity.jwks import check_file
from mesh.identity.users import resolve_users
from mesh.link.proof.prepare import PreparedLinks, prepare_links
from mesh.system.tls import make_context
from mesh.values.secret import resolve_secret
from routing.errors import ConfigError

if TYPE_CHECKING:
    from mesh.configuration.settings import Config
    from mesh.identity.users import User


def resolve_outside(config: Config) -> tuple[list[User], list[ssl.SSLContext | None]]:
    """Users with their hashes, and one TLS context (or None) per listener, in their order. Raises ConfigError.

    API keys and key sets in files are looked at too, so that a reload is refused whole when they are not there.
    """
    contexts: list[ssl.SSLContext | None] = []
    problems = list(open_keys(config))
    if problems:
        raise ConfigError("\n".join(problems))
    for _, listener, path in config.listeners.placed():
        try:
            contexts.append(make_context(listener.tls) if listener.tls is not None else None)
        except ConfigError as error:
            raise ConfigError(f"{path}.tls: {error}") from error
    resolve_api_keys(config.api_keys)
    for index, issuer in enumerate(config.jwt):
        check_file(f"jwt[{index}].jwks", issuer)
    if config.oidc is not None:
        try:
            resolve_secret(config.oidc.client_secret)
        except ConfigError as error:
            raise ConfigError(f"oidc.client_secret: {error}") from error
    resolve_webhooks(config)
    resolve_bridges(config)
    return resolve_users(config.users), contexts


def resolve_webhooks(config: Config) -> Prepared:
    """What webhooks need, with the secrets of the declared ones. Raises ConfigError."""
    return Prepared(config.webhooks, config.consumers)


def resolve_bridges(config: Config) -> PreparedBridges:
    """Bridges to Kafka clusters, with their secrets and TLS contexts. Raises ConfigError."""
    return PreparedBridges(config.kafka_bridges)


def resolve_links(config: Config) -> PreparedLinks:
    """Links and who may link, with their secrets and TLS contexts. Raises ConfigError."""
    return prepare_links(config.links, config.link_peers, users=config.authenticates)
