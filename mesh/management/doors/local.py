"""The user who runs the node, on the node's own machine: a Unix socket instead of a password.

    <data>/management.sock     mode 0600; serves what the console listener serves

Two locks: the mode keeps other users out, and the kernel says who is at the other end (SO_PEERCRED, unix(7)). The
user who runs the node could read its data and its configuration anyway, and so could root.
"""
from __future__ import annotations

import os
import pwd
import socket
import struct
from typing import Any

from mesh.configuration.rules import ADMIN_ROLE
from mesh.identity.users import AUTHENTICATED
from routing.rights.policy import Identity

PREFIX = "$local:"              # a name that nobody can log in with (it begins with $)
_CREDENTIALS = struct.Struct("3i")      # struct ucred: pid, uid, gid


def peer_of(sock: Any) -> tuple[int, int] | None:
    """(process, user) at the other end of a Unix socket; None for a socket of another family."""
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    process, user, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return process, user


def may_come_in(user: int) -> bool:
    return user in (os.geteuid(), 0)


def local_identity(sock: Any) -> Identity | None:
    """Who came over the Unix socket; None: it is none, or somebody else's."""
    peer = peer_of(sock)
    if peer is None or not may_come_in(peer[1]):
        return None
    process, user = peer
    return Identity(f"{PREFIX}{_name_of(user)}", (ADMIN_ROLE, AUTHENTICATED), address=f"process {process}")


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
