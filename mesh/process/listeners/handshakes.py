"""TLS handshakes that failed: counted, and said now and then.

asyncio and uvloop close such a connection without a word. Both make the ssl object of a connection by the context's
sslobject_class; there a handshake can be watched.
"""
from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

SAY_AGAIN_S: Final = 10.0           # at most one line per listener
HINTS: Final = {
    "HTTP_REQUEST": "the client speaks HTTP without TLS; its address should begin with https:// or wss://",
    "WRONG_VERSION_NUMBER": "the client speaks without TLS",
    "UNKNOWN_PROTOCOL": "the client speaks without TLS",
    "UNSUPPORTED_PROTOCOL": "the client wants TLS 1.1 or older",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has no certificate, and client_ca asks for one",
    "CERTIFICATE_VERIFY_FAILED": "client_ca has not signed the client's certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not know who signed this node's certificate: give it the ca",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept this node's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not accept this node's certificate",
}


class Handshakes:
    """Of one listener."""

    def __init__(self, where: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.failed = 0
        self.where = where
        self._clock_s = clock_s
        self._said = 0                  # of `failed`
        self._said_s = -SAY_AGAIN_S

    def watch(self, context: ssl.SSLContext, took: Callable[[float], None]) -> None:
        """Every connection that the context serves from now on. took: is told of the seconds of each step."""
        failure, clock_s = self._failure, time.perf_counter

        class Watched(ssl.SSLObject):
            def do_handshake(self) -> None:
                began_s = clock_s()
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    failure(error)
                    raise
                finally:
                    took(clock_s() - began_s)

        context.sslobject_class = Watched

    def _failure(self, error: ssl.SSLError) -> None:
        self.failed += 1
        now_s = self._clock_s()
        if now_s < self._said_s + SAY_AGAIN_S:
            return
        reason = error.reason or "the client hung up"
        more = self.failed - self._said - 1
        logger.warning("%s: a TLS handshake failed: %s%s", self.where, HINTS.get(reason, reason.lower()),
                       f" ({more} more since the last such line)" if more else "")
        self._said, self._said_s = self.failed, now_s
