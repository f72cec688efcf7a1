"""Signatures of webhooks, so that a receiver knows who sent what, and when. Pure.

    webhook-id         one event, the same for every attempt
    webhook-timestamp  seconds since 1970, of this attempt: a receiver refuses what is older than some minutes
    webhook-signature  "v1," and the base64 of HMAC-SHA256(key, id "." timestamp "." body); one per key, by spaces

Source: Standard Webhooks 1.0, §Webhook signatures. A secret is text, or base64 behind "whsec_"; several of them, one a
line, all sign, so that a key can be changed without a gap.
"""
from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from routing.errors import ConfigError

PREFIX = "whsec_"
KEYS_MAX = 4
KEY_BYTES_MIN = 16              # Standard Webhooks recommends 24 to 64


def keys_of(secret: str) -> list[bytes]:
    """The keys in a resolved secret. Raises ConfigError; its text does not hold the secret."""
    lines = [line.strip() for line in secret.splitlines() if line.strip()]
    if not 1 <= len(lines) <= KEYS_MAX:
        raise ConfigError(f"a webhook's secret has 1 to {KEYS_MAX} lines, a key in each")
    return [_key(line) for line in lines]


def _key(line: str) -> bytes:
    key = line.encode()
    if line.startswith(PREFIX):
        try:
            key = base64.b64decode(line[len(PREFIX):], validate=True)
        except binascii.Error:
            raise ConfigError(f"what stands behind {PREFIX} is not base64") from None
    if len(key) < KEY_BYTES_MIN:
        raise ConfigError(f"a key that signs webhooks has at least {KEY_BYTES_MIN} bytes")
    return key


def signed(keys: list[bytes], message_id: str, now_s: int, body: bytes) -> dict[str, str]:
    """The header fields of one attempt. Without keys the signature is left out."""
    fields = {"webhook-id": message_id, "webhook-timestamp": str(now_s)}
    if keys:
        content = f"{message_id}.{now_s}.".encode() + body
        fields["webhook-signature"] = " ".join(f"v1,{_hmac(key, content)}" for key in keys)
    return fields


def _hmac(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode("ascii")
