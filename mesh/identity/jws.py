"""Signed tokens (RFC 7515), by PyJWT. Loaded with the first issuer: it brings cryptography, 60 ms of a start.

Called by tokens.py only. Every function raises NotAToken for what is none, or is signed by somebody else.
"""
from __future__ import annotations

from typing import Any

import jwt
from jwt.exceptions import PyJWTError

_jws = jwt.PyJWS()


class NotAToken(ValueError):
    """Not a token, or its signature is wrong."""


def unverified_header(token: bytes) -> dict[str, Any]:
    try:
        return _jws.get_unverified_header(token)
    except (PyJWTError, ValueError, RecursionError):
        raise NotAToken from None


def unverified_payload(token: bytes) -> bytes:
    try:
        payload: bytes = _jws.decode_complete(token, options={"verify_signature": False})["payload"]
    except (PyJWTError, ValueError, RecursionError):
        raise NotAToken from None
    return payload


def verified_payload(token: bytes, key: Any, algorithm: str) -> bytes:
    try:
        payload: bytes = _jws.decode(token, key, algorithms=[algorithm])
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise NotAToken from None
    return payload
