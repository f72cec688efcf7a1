"""Logins: the mechanisms of a broker."""
from __future__ import annotations

from protocols.authentication.authenticator import Authenticator
from protocols.authentication.sasl import REFUSED, Exchange, OauthBearer, Plain, chosen
from protocols.authentication.scram import MECHANISMS
from protocols.authentication.scram_passwords import ScramPasswords

PROTOCOL = "kafka"
KNOWN = ("PLAIN", "OAUTHBEARER", *MECHANISMS)


class Logins:
    """One per broker. Loop thread only."""

    refused = REFUSED

    def __init__(self, authenticator: Authenticator, passwords: ScramPasswords, wanted: tuple[str, ...] = ()) -> None:
        """wanted: see chosen()."""
        self.mechanisms = chosen(KNOWN, wanted)
        self._authenticator = authenticator
        self.passwords = passwords

    def begin(self, mechanism: str, client_id: str, address: str) -> Exchange:
        """mechanism: one of mechanisms."""
        if mechanism in MECHANISMS:
            return self.passwords.begin(mechanism, PROTOCOL, client_id, address)
        make = Plain if mechanism == "PLAIN" else OauthBearer
        return make(self._authenticator, PROTOCOL, client_id, address)
