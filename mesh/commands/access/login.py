"""`meshgate login`, `logout`, `contexts`: which nodes there are, and who we are to them. The file: tui/contexts.py."""
from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client
from mesh.commands.client.table import format_table
from mesh.commands.client.target import password_of
from tui import contexts
from tui.api.errors import ApiError
from tui.api.target import CONSOLE_PORT, check_url


class HttpPlace(msgspec.Struct):
    """Where a node says that its HTTP listener is."""

    port: int
    tls: bool


def add_login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", default=f"http://127.0.0.1:{CONSOLE_PORT}",
                        help=f"the node's console listener (default: http://127.0.0.1:{CONSOLE_PORT})")
    parser.add_argument("--context", metavar="NAME", help="name to keep it under (default: the host)")
    parser.add_argument("--user", metavar="NAME", help="who you are there; the password comes from $MESHGATE_PASSWORD "
                        "or is asked for")
    parser.add_argument("--token", action="store_true", help="read an API key or a JWT from standard input instead")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM file with the authority of the node's certificate")
    parser.set_defaults(run=run_login)


def add_logout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("context", nargs="?", help="name (default: the one that is used now)")
    parser.add_argument("--forget", action="store_true", help="also forget the node")
    parser.set_defaults(run=run_logout)


def add_contexts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="use this one from now on")
    parser.set_defaults(run=run_contexts)


def run_login(options: Namespace) -> int:
    try:
        url = check_url(options.url)
        name = options.context or urlsplit(url).hostname or "node"
        contexts.check_name(name)
        known = contexts.load()
        token, answer = _proof(options, url)
        user = str(answer["user"])
        ca = str(options.ca.resolve()) if options.ca is not None else ""
        known.put(name, contexts.Context(url, user, token, ca, http_url(url, answer)))
        contexts.save(known)
    except ApiError as error:
        raise CommandError(error.text) from error
    print(f"logged in to {url} as {user or 'anonymous'}; kept as context {name}")
    return 0


def _proof(options: Namespace, url: str) -> tuple[str, dict[str, object]]:
    """(token, what the node said): proven, before anything is kept."""
    if options.user and options.token:
        raise CommandError("--user or --token, not both")
    if options.token:
        token = _read_token()
        return token, _ask(options, url, "/api/v1/whoami", token=token)
    if options.user:
        body = msgspec.json.encode({"user": options.user, "password": password_of(options.user)})
        answer = _ask(options, url, "/api/v1/login", body=body)
        return str(answer["token"]), answer
    try:
        return "", _ask(options, url, "/api/v1/whoami")
    except CommandError as error:
        raise CommandError(f"{error}; or --token") from error


def http_url(url: str, answer: dict[str, object]) -> str:
    """The HTTP listener on the host that we have asked, by TLS when that was by TLS: the same token goes there.

    "" when there is none such.
    """
    parts = urlsplit(url)
    places = [one for one in msgspec.convert(answer.get("http") or [], list[HttpPlace])
              if one.tls or parts.scheme == "http"]
    places.sort(key=lambda one: one.tls is not (parts.scheme == "https"))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http{'s' if places[0].tls else ''}://{host}:{places[0].port}" if places else ""


def _read_token() -> str:
    if sys.stdin.isatty():
        import getpass

        token = getpass.getpass("token: ").strip()
    else:
        token = sys.stdin.readline().strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError("the token is empty, or has characters that no token has")
    return token


def _ask(options: Namespace, url: str, path: str, *, token: str = "", body: bytes | None = None) -> dict[str, object]:
    client = Client(Namespace(listener="console", url=url, user=None, ca=options.ca, config=None, context=None))
    if token:
        client.authorize(f"Bearer {token}")
    answer = client.json(path, "GET" if body is None else "POST", body)
    if not isinstance(answer, dict):
        raise CommandError("the node's answer is not what this version expects")
    return answer


def run_logout(options: Namespace) -> int:
    """The token is ended at the node, too, when that can be reached; here it is gone in any case."""
    try:
        known = contexts.load()
        name = options.context or known.current
        context = known.find(name)
        if options.forget:
            del known.contexts[name]
            known.current = "" if known.current == name else known.current
        else:
            known.contexts[name] = contexts.Context(context.url, context.user, "", context.ca, context.http)
        contexts.save(known)
    except ApiError as error:
        raise CommandError(error.text) from error
    if context.token.startswith("mgs_"):
        client = Client(Namespace(listener="console", url=context.url, user=None, config=None, context=None,
                                  ca=Path(context.ca) if context.ca else None))
        client.authorize(f"Bearer {context.token}")
        try:
            client.json("/api/v1/logout", "POST", b"{}")
        except CommandError as error:
            print(f"meshgate: the token is gone here, but the node did not hear of it: {error}", file=sys.stderr)
    print(f"logged out of {name}" + (", which is forgotten" if options.forget else ""))
    return 0


def run_contexts(options: Namespace) -> int:
    try:
        known = contexts.load()
        if options.name:
            known.find(options.name)
            known.current = options.name
            contexts.save(known)
            print(f"using {options.name}")
            return 0
    except ApiError as error:
        raise CommandError(error.text) from error
    if not known.contexts:
        print("no contexts yet: meshgate login URL makes one")
        return 0
    print(format_table(["", "context", "node", "user", "login"], [
        ["*" if name == known.current else "", name, one.url, one.user or None, "kept" if one.token else None]
        for name, one in sorted(known.contexts.items())]))
    return 0
