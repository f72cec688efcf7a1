"""TLS contexts from the settings of a listener. Called by listener.py, reload.py and `meshgate check`.

TLS 1.2 and 1.3, the defaults of the ssl module (no compression, no renegotiation), no session tickets across nodes.
"""
from __future__ import annotations

import ssl
from functools import cache

from mesh.values.tls import TlsSettings
from routing.errors import ConfigError

HANDSHAKE_TIMEOUT_S = 5.0       # hostile.md row 86: plaintext on a TLS port and stalled handshakes are closed by then
SHUTDOWN_TIMEOUT_S = 2.0        # for the peer's close_notify


def make_context(tls: TlsSettings, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A server context. protocols: ALPN names. Raises ConfigError that names the file, not its content."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1         # for a client that comes again; each is a sixth of what a handshake takes
    if protocols:
        context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{tls.cert} with {tls.key}: {_reason(error)}") from error
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            raise ConfigError(f"{tls.client_ca}: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@cache
def system_trust() -> ssl.SSLContext:
    """For dialling, with the authorities of the system and nothing else.

    Made once, since reading them takes 60 ms of CPU; on a thread where a loop runs. Whoever dials by aiohttp names it:
    aiohttp's own default trusts nobody here, see lean.py.
    """
    return ssl.create_default_context()


def client_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """For dialling. ca: None for the system's authorities.  cert, key: our own, for mTLS. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ConfigError(f"{ca}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{cert} with {key}: {_reason(error)}") from error
    return context


def _no_password() -> str:
    """Without this OpenSSL would ask on the terminal for the pass phrase of an encrypted key."""
    raise ValueError("the key is encrypted; store it without a pass phrase, readable by the node's user alone")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a usable PEM file ({error.reason or 'no certificate or key in it'})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
