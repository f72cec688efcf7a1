"""What a push says by reference, resolved: the keys that sign, the values of header fields. Never shown, never logged.

    "secret:NAME"           an entry of [webhooks.secrets], for the URLs that it is meant for
    "env:NAME" "file:PATH"  directly; only in consumers that the configuration declares

A client that may make consumers could else have any file of the node sent to a URL of its own.
"""
from __future__ import annotations

from yarl import URL

from mesh.connectors.webhook_settings import WebhookSettings
from mesh.connectors.webhook_sign import keys_of
from mesh.values.secret import resolve_secret
from routing.consumers.definition.push import Push
from routing.errors import ConfigError

NAMED, DIRECT = "secret:", ("env:", "file:")
HEADERS_MAX = 32
HEADER_CHARS_MAX = 4_096
OURS = ("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "cookie")
SENSITIVE = ("auth", "token", "secret", "key", "password", "cookie", "credential")
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")    # RFC 9110 §5.6.2


class Resolved:
    """The secrets of one webhook, in memory."""

    __slots__ = ("headers", "keys")

    def __init__(self, keys: list[bytes], headers: dict[str, str]) -> None:
        self.keys = keys
        self.headers = headers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resolved) and (self.keys, self.headers) == (other.keys, other.headers)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Resolved({len(self.keys)} keys)"


def check_push(push: Push, url: URL, settings: WebhookSettings, *, declared: bool) -> str | None:
    """What is wrong with what a push says of headers, secrets and numbers. None: nothing. Reads no secret."""
    if not 0.1 <= push.timeout_s <= 600:
        return "push.timeout_s: from 0.1 to 600"
    if not 1 <= push.max_in_flight <= 1_000:
        return "push.max_in_flight: from 1 to 1000"
    if push.rate_per_minute is not None and not 1 <= push.rate_per_minute <= 1_000_000:
        return "push.rate_per_minute: from 1 to 1000000"
    if len(push.headers) > HEADERS_MAX:
        return f"push.headers: at most {HEADERS_MAX}"
    for name, value in push.headers.items():
        problem = _check_header(name, value) or _check_reference(f"push.headers.{name[:100]}", value, url, settings,
                                                                 declared, needed=_is_sensitive(name))
        if problem is not None:
            return problem
    if push.secret is not None:
        return _check_reference("push.secret", push.secret, url, settings, declared, needed=True)
    return None


def _check_header(name: str, value: str) -> str | None:
    lowered = name.lower()
    if not name or len(name) > 200 or not _TOKEN.issuperset(name) or lowered in OURS or lowered.startswith("webhook-"):
        return f"push.headers: {name[:100]!r} is no name of a field that may be set here"
    if len(value) > HEADER_CHARS_MAX or not value.isprintable() or not value.isascii():
        return f"push.headers.{name[:100]}: at most {HEADER_CHARS_MAX} printable characters of ASCII"
    return None


def _is_sensitive(name: str) -> bool:
    return any(word in name.lower() for word in SENSITIVE)


def _check_reference(path: str, value: str, url: URL, settings: WebhookSettings, declared: bool, *,
                     needed: bool) -> str | None:
    if value.startswith(NAMED):
        secret = settings.secrets.get(value[len(NAMED):])
        if secret is None:
            return f"{path}: [webhooks.secrets] has no {value[len(NAMED):][:100]}"
        if not any(_below(url, beginning) for beginning in secret.urls):
            return f"{path}: this secret is not meant for {url.host}"
        return None
    if value.startswith(DIRECT):
        return None if declared else f"{path}: only the configuration refers to files and the environment"
    return f"{path}: a secret is given by reference, \"secret:NAME\"; see [webhooks.secrets]" if needed else None


def _below(url: URL, beginning: str) -> bool:
    """The same scheme, host and port, and a path at or below."""
    try:
        root = URL(beginning)
    except ValueError:
        return False
    path = root.path.rstrip("/")
    return url.origin() == root.origin() and (url.path == path or url.path.startswith(path + "/"))


def resolve(push: Push, settings: WebhookSettings) -> Resolved:
    """Read the secrets of a checked push. Raises ConfigError, without them."""
    keys = keys_of(_value(push.secret, settings)) if push.secret is not None else []
    headers: dict[str, str] = {}
    for name, value in push.headers.items():
        found = _value(value, settings) if value.startswith((NAMED, *DIRECT)) else value
        if not found.isprintable() or not found.isascii():
            raise ConfigError(f"push.headers.{name}: the secret is not one line of ASCII")
        headers[name] = found
    return Resolved(keys, headers)


def _value(reference: str, settings: WebhookSettings) -> str:
    if reference.startswith(NAMED):
        secret = settings.secrets.get(reference[len(NAMED):])
        if secret is None:
            raise ConfigError(f"[webhooks.secrets] has no {reference[len(NAMED):]}")
        return resolve_secret(secret.value)
    return resolve_secret(reference)
