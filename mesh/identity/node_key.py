"""The node's own key: Ed25519, made when it first signs. What it signs can be proven to anybody, also offline.

    <data>/node.key     private, PKCS 8 in PEM, mode 0600
    <data>/node.pub     public, 64 hexadecimal digits: to be kept elsewhere by who wants to prove things later

Source: RFC 8032 (Ed25519), RFC 8410 (in PKCS 8).
"""
from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mesh.system.files.private import write_private
from routing.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME: Final = "node.key"
PUBLIC_NAME: Final = "node.pub"
FILE_BYTES_MAX: Final = 4_096
_HEAD: Final = b"-----BEGIN PRIVATE KEY-----"


class NodeKey:
    """Signs: some 50 µs. What it needs for that is loaded when it is first asked: most starts do without."""

    def __init__(self, data: Path) -> None:
        """Raises ConfigError when what is there is no key."""
        self._data = data
        self._private: Ed25519PrivateKey | None = None
        self._lock = threading.Lock()           # it may be loaded on a thread
        self._public = ""
        path = data / NAME
        try:
            found = path.read_bytes()[:FILE_BYTES_MAX] if path.exists() else _HEAD
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if not found.startswith(_HEAD):
            raise ConfigError(f"{path}: not a private key in PEM")

    @property
    def public(self) -> str:
        """64 hexadecimal digits. Raises ConfigError."""
        self._load()
        return self._public

    def sign(self, data: bytes) -> str:
        """Raises ConfigError."""
        return self._load().sign(data).hex()

    def _load(self) -> Ed25519PrivateKey:
        with self._lock:
            if self._private is None:
                private = _read(self._data / NAME)
                self._public = _public(private)
                public = self._data / PUBLIC_NAME
                if not public.exists():
                    write_private(public, f"{self._public}\n".encode(), 0o644)
                self._private = private
            return self._private


def _read(path: Path) -> Ed25519PrivateKey:
    """Made when there is none."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        private = Ed25519PrivateKey.generate()
        write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return private
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 key")
    return found


def _public(private: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def is_signed(public: str, signature: str, data: bytes) -> bool:
    """public, signature: hexadecimal, as above."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True
