"""Signing keys, key sets and tokens for the tests of JWT logins, by hand where no library would make such ones."""
from __future__ import annotations

import base64
import json
from functools import cache

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example", "meshgate"
NOW_S = 1_800_000_000


@cache
def rsa_key(number=1, bits=2048):
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(number=1):
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key(number=1):
    return ed25519.Ed25519PrivateKey.generate()


def jwk(private, kid, **more):
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm,
             ed25519.Ed25519PrivateKey: OKPAlgorithm}
    algorithm = next(algorithm for kind, algorithm in kinds.items() if isinstance(private, kind))
    return {**json.loads(algorithm.to_jwk(private.public_key())), "kid": kid, **more}


def jwks(*keys):
    return json.dumps({"keys": list(keys)}).encode()


def public_pem(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**more):
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "pos-7", "exp": NOW_S + 600, "roles": ["cashier"], **more}
    return {name: value for name, value in made.items() if value is not ...}


def token(private=None, algorithm="RS256", kid="k1", header=None, **more):
    headers = {**({} if kid is None else {"kid": kid}), **(header or {})}
    return jwt.encode(claims(**more), private or rsa_key(), algorithm, headers=headers).encode()


def by_hand(header, payload, signature=b""):
    """A token of any header and payload."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (*parts, signature))
