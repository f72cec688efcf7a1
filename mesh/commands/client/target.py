"""Which node a command talks to, and as whom: --url, --context, --config, the current context, the socket here.

    --url URL, $MESHGATE_CONSOLE      that one
    --context NAME                    as `meshgate login` left it
    --config FILE                     the node of this file: its Unix socket, else its console listener
    (nothing)                         the current context; ./meshgate-data/management.sock; http://127.0.0.1:8090

`pub` and `sub` talk to the HTTP listener, with the same login: --url, $MESHGATE_HTTP; where the node of the context has
it; that of the file; http://127.0.0.1:8080. They do not go by the socket: who runs a node may look at it, which is no
right to publish.
"""
from __future__ import annotations

import argparse
import getpass
import os
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

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
    """Of the HTTP listener, with the login of the other commands. Raises CommandError."""
    try:
        found = _http_place(options)
        return found.with_password(options.user, password_of(options.user)) if options.user else found
    except ApiError as error:
        raise CommandError(error.text) from error


def _http_place(options: argparse.Namespace) -> Target:
    if options.url and not options.context:
        return Target(check_url(options.url), ca=options.ca)        # a login is shown to nobody else
    if options.config is not None and not options.context:
        return Target(_listener_url(options.config, "http"), ca=options.ca)
    known = contexts.load()
    name = options.context or known.current
    if name not in known.contexts and not options.context:
        return Target(f"http://127.0.0.1:{HTTP_PORT}", ca=options.ca)
    context = known.find(name)
    url = check_url(options.url) if options.url else context.http or _beside(context.url)
    found = context.target(name)
    return replace(found, url=url, ca=options.ca or found.ca, console=context.url)


def _beside(url: str) -> str:
    """Of a login that does not know: the usual port of that host."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{HTTP_PORT}"


def _of_file(file: Path, ca: Path | None) -> Target:
    from mesh.configuration.config import load_config  # late: it knows every setting of every protocol

    try:
        socket = Path(load_config(file).node.data) / SOCKET
    except ConfigError as error:
        raise CommandError(str(error)) from error
    return Target(socket=socket) if _ours(socket) else Target(_listener_url(file, "console"), ca=ca)


def _listener_url(file: Path, name: str) -> str:
    from mesh.configuration.config import load_config
    from mesh.values.address import parse_bind

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

