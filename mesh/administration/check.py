"""What a managed document must hold beyond the types of its values. Problems, one line each; raises nothing.

A name is a name: no wildcards and no regular expressions. What looks like one would be taken for more than it is.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mesh.administration.documents import (
    QUOTAS,
    Document,
    KeyDocument,
    MaskDocument,
    PeerDocument,
    PolicyDocument,
    QuotaDocument,
    RoleDocument,
    UserDocument,
)
from mesh.configuration.checks import NAME_CHARACTERS, NODE_NAME_MAX
from mesh.identity.auth_settings import is_key_hash, user_problem
from mesh.identity.masks import MaskTable, check_masks
from mesh.identity.users import AUTHENTICATED, check_password_hash
from routing.errors import TopicError
from routing.rights.rules import ANONYMOUS
from routing.topic import check_filter

NOT_IN_NAMES: Final = frozenset("*+#%?/\\^|()[]{}<>\"'`;")
EXPECTED_SUBJECT: Final = '"user:NAME", "role:NAME", "anonymous" or "*"'
TAKEN: Final = ("policy ", "built in", "no users are", "the node itself")       # how names of the node's rules begin


def name_problem(kind: str, name: str) -> str | None:
    """Why no document of this kind may have this name, or None."""
    problem = user_problem(name)
    if problem is not None:
        return problem
    wild = sorted(NOT_IN_NAMES.intersection(name))
    if wild:
        return f"{wild[0]} may not stand in it: a name is a name, no pattern"
    if name != name.strip():
        return "no blanks at its ends"
    if kind == "role" and name == AUTHENTICATED:
        return f"{name} is a role that the node gives itself"
    if kind == "policy" and name.startswith(TAKEN):
        return "the node gives such names to rules itself"
    if kind == "peer" and not (len(name) <= NODE_NAME_MAX and NAME_CHARACTERS.issuperset(name)):
        return "no name of a node"
    return None


def problems_of(kind: str, name: str, document: Document) -> list[str]:
    problem = name_problem(kind, name)
    return [*([f"name: {problem}"] if problem is not None else []), *_common(document), *_own(document)]


def _common(document: Document) -> Iterator[str]:
    if not document.description.isprintable():
        yield "description: expected one line of printable text"
    for field in ("nodes", "sites"):
        for name in getattr(document, field):
            if not (0 < len(name) <= NODE_NAME_MAX and NAME_CHARACTERS.issuperset(name)):
                yield f"{field}: {name!r} is no name of a {field[:-1]}: no pattern may stand here"
    if document.from_ is not None and document.until is not None and document.until <= document.from_:
        yield "until: it ends before it begins"


def _own(document: Document) -> Iterator[str]:
    if isinstance(document, UserDocument):
        if document.password_hash is not None:
            problem = check_password_hash(document.password_hash)
            if problem is not None:
                yield f"password_hash: {problem}"
        yield from _roles("roles", document.roles)
    elif isinstance(document, KeyDocument):
        if not is_key_hash(document.key_hash) or (document.old_hash and not is_key_hash(document.old_hash)):
            yield "key_hash: not the hash of an API key; leave it out, and a key is made"
        if document.user:
            problem = user_problem(document.user)
            if problem is not None or NOT_IN_NAMES.intersection(document.user):
                yield f"user: {problem or 'a name is a name, no pattern'}"
        yield from _roles("roles", document.roles)
    elif isinstance(document, RoleDocument):
        yield from _roles("held_by", document.held_by)
    elif isinstance(document, PolicyDocument):
        yield from _policy(document)
    elif isinstance(document, PeerDocument):
        yield from _peer(document)
    elif isinstance(document, QuotaDocument):
        yield from _quota(document)
    elif isinstance(document, MaskDocument):
        for problem in check_masks((mask_of("mask", document),)):
            yield problem.removeprefix("masks[0].").removeprefix("masks[0]: ")


def _quota(quota: QuotaDocument) -> Iterator[str]:
    if all(getattr(quota, what) is None for what in QUOTAS):
        yield f"says nothing; name one of {', '.join(QUOTAS)}"
    for user in quota.users:
        problem = user_problem(user) if user != ANONYMOUS else None
        if problem is not None or NOT_IN_NAMES.intersection(user):
            yield f"users: {user!r}: {problem or 'a name is a name, no pattern'}"


def mask_of(name: str, mask: MaskDocument) -> MaskTable:
    return MaskTable(name, mask.topics, mask.fields, mask.headers, mask.key, mask.payload, mask.shown_to)


def _roles(field: str, roles: tuple[str, ...]) -> Iterator[str]:
    for role in roles:
        if not role or not role.isprintable() or NOT_IN_NAMES.intersection(role) or role.startswith("$"):
            yield f"{field}: {role!r} is no name of a role: a name is a name, no pattern"


def _policy(policy: PolicyDocument) -> Iterator[str]:
    if bool(policy.allow) == bool(policy.deny):
        yield "either allow or deny names the actions"
    if not policy.to:
        yield f"to: expected at least one {EXPECTED_SUBJECT}"
    for subject in policy.to:
        yield from _subject(subject)
    for pattern in policy.topics:
        try:
            check_filter(pattern.replace("%u", "u").replace("%c", "c"))
        except TopicError as error:
            yield f"topics: {error}"
            continue
        if any(level in ("*", "**", ".*", ".+") for level in pattern.split("/")):
            yield f"topics: {pattern!r}: + stands for one level and # for the rest; there are no other patterns"


def _subject(subject: str) -> Iterator[str]:
    kind, _, name = subject.partition(":")
    if subject in ("*", ANONYMOUS):
        return
    if kind not in ("user", "role") or not name:
        yield f"to: expected {EXPECTED_SUBJECT}, got {subject!r}"
        return
    plain = name.replace("%c", "") if kind == "user" else name
    if NOT_IN_NAMES.intersection(plain) or not name.isprintable():
        yield f"to: {subject!r}: a name is a name, no pattern; the only mark here is %c, in user:NAME"


def _peer(peer: PeerDocument) -> Iterator[str]:
    if peer.token_hash and not is_key_hash(peer.token_hash):
        yield "token_hash: expected sha256: and 64 hexadecimal digits; or leave it out and give a token"
    for field, filters in (("export", peer.exports), ("import", peer.imports)):
        for pattern in filters:
            try:
                check_filter(pattern)
            except TopicError as error:
                yield f"{field}: {error}"
    if peer.prefix and ({"+", "#"} & set(peer.prefix) or peer.prefix.startswith(("$", "/")) or peer.prefix[-1] == "/"):
        yield "prefix: expected levels of a topic, such as plants/graz"


def circle_of_roles(roles: Mapping[str, tuple[str, ...]]) -> str | None:
    """roles: role → those that hold it.  A role that is held by itself over others, or None."""
    done: set[str] = set()
    for first in roles:
        path: list[tuple[str, Iterator[str]]] = [(first, iter(roles[first]))]
        on_path = {first}
        while path:
            role, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                on_path.discard(role)
                done.add(role)
            elif following in on_path:
                return following
            elif following not in done and following in roles:
                path.append((following, iter(roles[following])))
                on_path.add(following)
    return None
