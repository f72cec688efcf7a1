"""`[node] profile = "hardened"`: one word for what a node that strangers can reach should not do without.

    problems()   what of the file stands against it, one line each, with the path of the setting
    open_keys()  private keys that everybody on the machine may read
    applied()    the configuration with the settings that the profile decides
    effects()    what holds because of it, line by line: `meshgate check` prints them

Called by config.py and by `meshgate check`. Where the file says less than the profile it is an error, never a silent
change; where the file says nothing, or a longer time, the profile's value counts and is printed.
"""
from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from mesh.configuration.settings import Config, ListenerSettings, Profile
from mesh.connectors.kafka.settings import host_of
from mesh.link.dialling.target import parse_target
from mesh.values.address import is_loopback, parse_bind
from routing.rights.policy import ANONYMOUS

SESSION_IDLE_S = 900.0          # OWASP Session Management, "Idle timeout": 15 to 30 minutes for common applications
SESSION_S = 4 * 3_600.0         # OWASP, "Absolute timeout": 4 to 8 hours for an office worker's day
ELSEWHERE = ("file:", "env:")
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----"


def is_hardened(config: Config) -> bool:
    return config.node.profile is Profile.HARDENED


def problems(config: Config) -> Iterator[str]:
    """What stands in the way of the profile, in the order of the file's tables."""
    if not is_hardened(config):
        return
    for problem in (*_logins(config), *_listeners(config), *_links(config), *_bridges(config),
                    *_pages(config), *_secrets(config)):
        yield f'{problem} (profile = "hardened")'


def applied(config: Config) -> Config:
    if not is_hardened(config):
        return config
    console = msgspec.structs.replace(
        config.console, session_idle_s=min(config.console.session_idle_s, SESSION_IDLE_S),
        session_s=min(config.console.session_s, SESSION_S), record_every_view=True)
    return msgspec.structs.replace(
        config, console=console, webhooks=msgspec.structs.replace(config.webhooks, https_only=True),
        mesh=msgspec.structs.replace(config.mesh, require_signed=True))


def effects(config: Config) -> list[str]:
    """Each line: a setting, or what it is about, and what holds. Empty without a profile."""
    if not is_hardened(config):
        return []
    found = [f"{path}: {_listener_effect(protocol, listener)}" for protocol, listener, path
             in config.listeners.placed()]
    found += [f"links[{index}]: {_link_effect(table.to, table.cert)}" for index, table in enumerate(config.links)]
    console = config.console
    return [
        *found,
        "anonymous: nobody comes in without a proof, on no protocol, whatever a policy says",
        "passwords: only over TLS, or from this machine; PLAIN and Basic, too",
        f"console.session_idle_s: {console.session_idle_s:g}, at most {SESSION_IDLE_S:g}",
        f"console.session_s: {console.session_s:g}, at most {SESSION_S:g}",
        "console.record_every_view: true; a payload is shown when the record of that is on disk, else not",
        *(f"kafka_bridges[{index}]: {', '.join(bridge.servers)}, {'over TLS' if bridge.tls else 'on this machine'}"
          for index, bridge in enumerate(config.kafka_bridges)),
        "mesh.require_signed: true; only nodes that sign what they say are believed",
        "webhooks.https_only: true; receivers elsewhere than on this machine are called over TLS",
        "http.cors, websocket: pages of the sites that are named, never of every site",
        "secrets: in files or the environment, not in the configuration; private keys not readable by everybody",
    ]


def open_keys(config: Config) -> Iterator[str]:
    """Private keys that every user of the machine may read. Looks at the files."""
    if not is_hardened(config):
        return
    places = [(f"{path}.tls.key", listener.tls.key) for _, listener, path in config.listeners.placed()
              if listener.tls is not None]
    places += [(f"links[{index}].key", table.key) for index, table in enumerate(config.links) if table.key is not None]
    for path, name in places:
        with suppress(OSError):             # told by who loads it
            if os.stat(name).st_mode & stat.S_IROTH:
                yield f'{path}: every user of this machine may read {name}; chmod o-r (profile = "hardened")'


def _logins(config: Config) -> Iterator[str]:
    if not config.authenticates:
        yield ("node.profile: nobody may come in without a proof; add [[users]] (without password_hash: by client "
               "certificate only), [[api_keys]] or [[jwt]]")
    for index, policy in enumerate(config.policies):
        for number, subject in enumerate(policy.to):
            if policy.allow and subject == ANONYMOUS:
                yield f"policies[{index}].to[{number}]: anonymous comes in nowhere; name users or roles"


def _listeners(config: Config) -> Iterator[str]:
    for protocol, listener, path in config.listeners.placed():
        if listener.insecure:
            yield f"{path}.insecure: take it out; what other machines can reach has tls = {{ cert, key }}"
        if protocol == "link" and _reachable(listener) and listener.tls is not None and listener.tls.client_ca is None:
            yield f"{path}.tls.client_ca: missing; nodes that dial prove by certificate who they are"


def _links(config: Config) -> Iterator[str]:
    for index, table in enumerate(config.links):
        path = f"links[{index}]"
        try:
            uri = parse_target(table)
        except ValueError:
            continue                        # told by the check of links
        if table.insecure:
            yield f"{path}.insecure: take it out; a link to another machine is wss://"
        if uri.secure and table.cert is None:
            yield f"{path}.cert: missing; this node proves by certificate who it is, so cert and key are needed"


def _bridges(config: Config) -> Iterator[str]:
    for index, bridge in enumerate(config.kafka_bridges):
        if bridge.tls is None and not all(is_loopback(host_of(server)) for server in bridge.servers):
            yield (f"kafka_bridges[{index}].tls: missing; what goes to a cluster on other machines is encrypted, "
                   "so [kafka_bridges.tls] is needed")


def _pages(config: Config) -> Iterator[str]:
    for path, origins in (("http.cors.origins", config.protocol("http").cors.origins),
                          ("websocket.allowed_origins", config.protocol("websocket").allowed_origins)):
        if "*" in origins:
            yield f'{path}: "*" lets the pages of every site in; name those that may'


def _secrets(config: Config) -> Iterator[str]:
    places = [(f"links[{index}]", name, getattr(table, name)) for index, table in enumerate(config.links)
              for name in ("token", "proxy_password")]
    places += [(f"link_peers[{index}]", name, getattr(table, name)) for index, table in enumerate(config.link_peers)
               for name in ("token", "jwt_key")]
    if config.oidc is not None:
        places.append(("oidc", "client_secret", config.oidc.client_secret))
    for path, name, value in places:
        if value and not value.startswith((*ELSEWHERE, PUBLIC_KEY)):
            yield f'{path}.{name}: a secret in clear text; put it in "file:PATH" or "env:NAME"'


def _reachable(listener: ListenerSettings) -> bool:
    try:
        return not is_loopback(parse_bind(listener.bind)[0])
    except ValueError:
        return False                        # told by the check of listeners


def _listener_effect(protocol: str, listener: ListenerSettings) -> str:
    tls = listener.tls
    if tls is None:
        return f"{listener.bind}, this machine only, without TLS"
    if tls.client_ca is None:
        return f"{listener.bind}, TLS 1.2 or 1.3"
    who = "node that dials" if protocol == "link" else "user"
    return f"{listener.bind}, TLS 1.2 or 1.3, a client certificate that names the {who}"


def _link_effect(to: str, cert: str | None) -> str:
    return f"{to}, over TLS, with the certificate {cert}" if cert is not None else f"{to}, on this machine"
