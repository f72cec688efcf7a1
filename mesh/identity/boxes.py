"""The key of one run of the node for what it sends to one other: X25519. Both ends come to the same secret.

The public half stands in the node's signed state, so who answers it is who signed. It is made anew with every start:
what was recorded of an earlier run proves nothing in this one. Source: RFC 7748.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


class Box:
    """Made when it is first asked for: most starts do without."""

    def __init__(self) -> None:
        self._private: X25519PrivateKey | None = None

    @property
    def public(self) -> bytes:
        """32 bytes."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._made().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def shared(self, public: bytes) -> bytes:
        """32 bytes, some 50 µs. Raises ValueError for what is no such key."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        return self._made().exchange(X25519PublicKey.from_public_bytes(public))

    def _made(self) -> X25519PrivateKey:
        if self._private is None:
            from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

            self._private = X25519PrivateKey.generate()
        return self._private
