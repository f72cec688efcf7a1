"""From what somebody sends to a change of a document: passwords become hashes, keys are made, what is hidden stays.

    {"document": {"roles": ["till"], "password": "…"}, "version": "3@graz-1", "reason": "…"}      null: delete it

In the place of a hash people see "(hidden)"; sent back, or left out, it stays what it was.
"""
from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from mesh.administration.administration import Administration
from mesh.administration.book import Change
from mesh.administration.documents import HIDDEN, SECRETS, Body, body_of, document_of
from mesh.identity.apikeys import hash_key, make_key
from mesh.identity.identity import PASSWORD_BYTES_MAX
from mesh.identity.users import hash_password
from mesh.link.proof.credentials import TOKEN_CHARACTERS_MIN
from protocols.rest.problems import Problem

PASSWORD_CHARACTERS_MIN: Final = 8
FIELD_OF: Final = {"user": "password_hash", "key": "key_hash", "peer": "token_hash"}     # kind → its secret


class Asked(msgspec.Struct, frozen=True):
    """A change, and the key that was made for it, which is shown this once."""

    change: Change
    key: str = ""


async def change_of(administration: Administration, kind: str, name: str, sent: Any, version: str | None,
                    *, make: bool) -> Asked:
    """sent: the document as it came; None: delete it.  version None: that of now.  make: a key may be made.

    Raises Problem.
    """
    key = kind, name
    now = administration.book.version_of(key)
    if version is None:
        version = now
    if sent is None:
        return Asked(Change(kind, name, None, version))
    if not isinstance(sent, dict):
        raise Problem(400, "body-invalid", "document is an object, or null to delete it")
    body: Body = dict(sent)
    stored = administration.book.current(key)
    old: Body = stored.body or {} if stored is not None else {}
    for field in SECRETS:
        if body.get(field) == HIDDEN:
            if field in old:
                body[field] = old[field]
            else:
                del body[field]
    made = ""
    if kind == "user":
        await _password(body, old)
    elif kind == "key" and "key_hash" not in body:
        if "key_hash" in old:
            body["key_hash"] = old["key_hash"]
        elif make:
            made = make_key()
            body["key_hash"] = hash_key(made)
        else:
            raise Problem(400, "body-invalid", "key_hash: make the key with PUT keys/NAME, which shows it")
    elif kind == "peer":
        _token(body, old)
    try:
        normal = body_of(document_of(kind, body))
    except (msgspec.ValidationError, RecursionError) as error:
        raise Problem(400, "body-invalid", str(error)) from error
    return Asked(Change(kind, name, normal, version), made)


async def _password(body: Body, old: Body) -> None:
    password = body.pop("password", None)
    if password is None:
        if "password_hash" not in body and "password_hash" in old:
            body["password_hash"] = old["password_hash"]
        return
    if not isinstance(password, str) or len(password) < PASSWORD_CHARACTERS_MIN:
        raise Problem(400, "body-invalid", f"password: expected a text of {PASSWORD_CHARACTERS_MIN} characters or more")
    if len(password.encode("utf-8", "replace")) > PASSWORD_BYTES_MAX:
        raise Problem(400, "body-invalid", f"password: at most {PASSWORD_BYTES_MAX} bytes")
    body["password_hash"] = await asyncio.to_thread(hash_password, password)


def _token(body: Body, old: Body) -> None:
    token = body.pop("token", None)
    if token is None:
        if "token_hash" not in body and "token_hash" in old:
            body["token_hash"] = old["token_hash"]
        return
    if not isinstance(token, str) or len(token) < TOKEN_CHARACTERS_MIN:
        raise Problem(400, "body-invalid", f"token: expected at least {TOKEN_CHARACTERS_MIN} characters")
    body["token_hash"] = hash_key(token)


def version_of(match: str, body: dict[str, Any]) -> str:
    """The version that the caller has seen: If-Match, or `version`. Raises Problem."""
    found = body.get("version", match)
    if not isinstance(found, str):
        raise Problem(400, "body-invalid", "version is a text, as it stands beside the document")
    return found
