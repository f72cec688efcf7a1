"""The client's side of SCRAM (RFC 5802), for the tests of the protocols that carry it."""
from __future__ import annotations

import base64
import hashlib
import hmac

from protocols.authentication.scram import credential_of

NAMES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def kept(mechanism, password):
    """What a node keeps of a password."""
    return credential_of(mechanism, 4096, b"salt", hashlib.pbkdf2_hmac(NAMES[mechanism], password, b"salt", 4096))


def final(mechanism, password, bare, challenge):
    """The client's last message, and what the server has to answer."""
    name = NAMES[mechanism]
    fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
    salted = hashlib.pbkdf2_hmac(name, password, base64.b64decode(fields[b"s"]), int(fields[b"i"]))
    without = b"c=biws,r=" + fields[b"r"]
    whole = bare + b"," + challenge + b"," + without
    key = hmac.digest(salted, b"Client Key", name)
    signature = hmac.digest(hashlib.new(name, key).digest(), whole, name)
    proof = base64.b64encode(bytes(one ^ other for one, other in zip(key, signature)))
    theirs = hmac.digest(hmac.digest(salted, b"Server Key", name), whole, name)
    return without + b",p=" + proof, b"v=" + base64.b64encode(theirs)
