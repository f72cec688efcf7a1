"""Push: what a consumer says whose events go out to a URL, a webhook. Stored with the consumer; holds no secret.

mesh/connectors/webhooks.py attaches itself as the member of each consumer that has one.
"""
from __future__ import annotations

from typing import Literal

import msgspec

PushFormat = Literal["raw", "json", "cloudevents", "cloudevents-structured"]


class Push(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where and how. Back-off, attempts and dead letters are those of the consumer."""

    url: str                                # http or https
    format: PushFormat = "raw"
    headers: dict[str, str] = {}            # sent with every request; a value may be a reference to a secret
    secret: str | None = None               # a reference to the key that signs, never the key
    timeout_s: float = 30.0                 # of one request, answer included
    max_in_flight: int = 10                 # requests at a time, one per key
    handshake: bool | None = None           # ask the receiver first (CloudEvents webhook §4); None: with cloudevents
    rate_per_minute: int | None = None      # requests at most


class StrictPush(Push, frozen=True, forbid_unknown_fields=True):
    """The same as a person writes it, in a file or a request: a misspelt key is an error."""

    def plain(self) -> Push:
        return Push(**{name: getattr(self, name) for name in Push.__struct_fields__})
