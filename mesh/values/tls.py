"""Which certificate a listener shows: [listeners].*.tls."""
from __future__ import annotations

import msgspec


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files; relative names count from the configuration file."""

    cert: str                               # chain, the node's own certificate first
    key: str
    client_ca: str | None = None            # clients must show a certificate of this authority; its CN is the user
