"""Which node a command talks to, and as whom: --url, --context, --config, the current context, the socket here.

    --url URL, $MESHGATE_CONSOLE      that one
    --context NAME                    as `meshgate login` left it
    --config FILE                     the node of this file: its Unix socket, else its console listener
    (nothing)                         the current context; ./meshgate-data/management.sock; http://127.0.0.1:8090
"""
from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from mesh.commands.client.errors import CommandError
from routing.errors import ConfigError
from tui import contexts
from tui.api.errors import ApiError
from tui.api.target import CONSOLE_PORT, HTTP_PORT, Target, check_url

SOCKET = "management.sock"
DATA_DEFAULT = Path("meshgate-data")


def target_of(options: argparse.Namespace) -> Target:
    """Raises CommandError."""
    try:
        found = _place(options)
        if not options.user:
            return found
        return found.with_password(options.user, password_of(options.user))
    except ApiError as error:
        raise CommandError(error.text) from error


def _place(options: argparse.Namespace) -> Target:
    ca = options.ca
    if options.url:
        return Target(check_url(options.url), ca=ca)
    name = getattr(options, "context", None)
    if name:
        return contexts.load().find(name).target(name)
    if options.config is not None:
        return _of_file(options.config, ca)
    known = contexts.load()
    if known.current in known.contexts:
        return known.contexts[known.current].target(known.current)
    socket = DATA_DEFAULT / SOCKET
    if _ours(socket):
        return Target(socket=socket)
    return Target(f"http://127.0.0.1:{CONSOLE_PORT}", ca=ca)


def http_target(options: argparse.Namespace) -> Target:
    """Of the HTTP listener, which contexts and sockets are not for. Raises CommandError."""
    try:
        url = check_url(options.url) if options.url else (
            f"http://127.0.0.1:{HTTP_PORT}" if options.config is None else _listener_url(options.config, "http"))
        found = Target(url, ca=options.ca)
        return found.with_password(options.user, password_of(options.user)) if options.user else found
    except ApiError as error:
        raise CommandError(error.text) from error


def _of_file(file: Path, ca: Path | None) -> Target:
    from mesh.configuration.config import load_config  # late: it knows every setting of every protocol

    try:
        socket = Path(load_config(file).node.data) / SOCKET
    except ConfigError as error:
        raise CommandError(str(error)) from error
    return Target(socket=socket) if _ours(socket) else Target(_listener_url(file, "console"), ca=ca)


def _listener_url(file: Path, name: str) -> str:
    from mesh.configuration.address import parse_bind
    from mesh.configuration.config import load_config

    try:
        config = load_config(file)
    except ConfigError as error:
        raise CommandError(str(error)) from error
    for listener, settings in config.listeners.all():
        if listener == name:
            host, port = parse_bind(settings.bind)
            shown = f"[{host}]" if ":" in host else "127.0.0.1" if host in ("", "0.0.0.0") else host
            return f"{'https' if settings.tls else 'http'}://{shown}:{port}"
    raise CommandError(f"{file}: this node has no {name} listener")


def _ours(path: Path) -> bool:
    """There, and made by us or by root: somebody else's socket may pretend to be a node."""
    try:
        status = path.stat()
    except OSError:
        return False
    return path.is_socket() and status.st_uid in (os.geteuid(), 0)


def password_of(user: str) -> str:
    """From $MESHGATE_PASSWORD, or asked for."""
    password = os.environ.get("MESHGATE_PASSWORD")
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise CommandError("set MESHGATE_PASSWORD, or run this in a terminal to be asked for the password")
    return getpass.getpass(f"password of {user}: ")

