"""One member of a JSON Web Key Set as a key (RFC 7517), by PyJWT and cryptography. Loaded with the first key set.

Called by jwks.py only.
"""
from __future__ import annotations

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

RSA_BITS_MIN = 2_048            # RFC 7518 §3.3
SECRET_BYTES_MIN = 32           # RFC 7518 §3.2
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def load_key(member: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The key, and the algorithms that a key of its type can do: none for a key that is broken or too weak."""
    try:
        return _load(member)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None, ()


def _load(member: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    kind = member.get("kty")
    if kind == "oct":
        secret = HMACAlgorithm.from_jwk(member)
        return secret, ("HS256", "HS384", "HS512") if len(secret) >= SECRET_BYTES_MIN else ()
    if kind == "RSA":
        key: Any = _public(RSAAlgorithm.from_jwk(member))
        strong = isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN
        return key, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512") if strong else ()
    if kind == "EC":
        key = _public(ECAlgorithm.from_jwk(member))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        name = _CURVES.get(key.curve.name)
        return key, (name,) if name is not None else ()
    if kind == "OKP":
        return _public(OKPAlgorithm.from_jwk(member)), ("EdDSA",)
    return None, ()


def _public(key: Any) -> Any:
    """A set that was published with its private halves by mistake still has the public ones."""
    return key.public_key() if hasattr(key, "private_bytes") else key
