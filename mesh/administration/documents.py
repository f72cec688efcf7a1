"""Managed documents: what may stand in one of each kind, and a version of one as it is stored. Values, no state.

    kind      name is                 what it adds to the configuration file
    user      the user's name         [[users]]
    key       the key's name          [[api_keys]]
    role      the role's name         who has another role has this one, too
    policy    the rule's name         [[policies]]
    peer      the node that dials     [[link_peers]]
    mask      the mask's name         [[masks]]
    quota     the quota's name        how much of something each of some users may have

All have a description, where they count (nodes, sites; none named: everywhere), when (from, until), and `enabled`.
"""
from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from mesh.link.settings import EVERYTHING, VIEW, Asked
from routing.rights.rules import Action

HIDDEN: Final = "(hidden)"
PLACES: Final = ("nodes", "sites")
SECRETS: Final = ("password_hash", "key_hash", "old_hash", "token_hash")
Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
Line: TypeAlias = Annotated[str, Meta(max_length=500)]
Texts: TypeAlias = Annotated[tuple[Annotated[str, Meta(max_length=1_024)], ...], Meta(max_length=1_000)]
Body: TypeAlias = dict[str, Any]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True,
               rename={"from_": "from"}):
    """What every kind has. Times have a zone; `until` is the first moment at which it counts no more."""

    description: Line = ""
    nodes: Texts = ()
    sites: Texts = ()
    from_: Moment | None = None
    until: Moment | None = None
    enabled: bool = True

    def __repr__(self) -> str:              # a hash never gets into a log by way of a struct
        return f"{type(self).__name__}()"

    def counts_at(self, node: str, site: str) -> bool:
        return self.enabled and (not self.nodes or node in self.nodes) and (not self.sites or site in self.sites)

    def counts_when(self, now_ms: int) -> bool:
        begun = self.from_ is None or ms_of(self.from_) <= now_ms
        return begun and (self.until is None or now_ms < ms_of(self.until))

    def moments_ms(self) -> list[int]:
        """When it begins and ceases to count."""
        return [ms_of(moment) for moment in (self.from_, self.until) if moment is not None]


class UserDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    """Without a password_hash: by client certificate only."""

    password_hash: str | None = None        # argon2id
    roles: Texts = ()


class KeyDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    """`until` is when it expires."""

    key_hash: str                           # "sha256:…"
    user: str = ""                          # "": the name of the key
    roles: Texts = ()
    old_hash: str = ""                      # of the key before a rotation, …
    old_until: Moment | None = None         # … which is good until then

    def moments_ms(self) -> list[int]:
        return super().moments_ms() + ([ms_of(self.old_until)] if self.old_until is not None else [])


class RoleDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    """Who has one of `held_by` has this role, too, whoever said so: a document, the file, a token."""

    held_by: Texts = ()


class PolicyDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    allow: Annotated[tuple[Action, ...], Meta(max_length=16)] = ()
    deny: Annotated[tuple[Action, ...], Meta(max_length=16)] = ()
    to: Texts = ()
    topics: Texts = ()


class PeerDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    """Without a token_hash: by client certificate only."""

    token_hash: str = ""                    # "sha256:…" of the shared secret
    exports: Texts = msgspec.field(default=EVERYTHING, name="export")
    imports: Texts = msgspec.field(default=EVERYTHING, name="import")
    prefix: Line = ""
    console: Annotated[tuple[Asked, ...], Meta(max_length=2)] = VIEW
    rate_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 0
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    paused: bool = False
    administer: bool = False                # its documents are taken; see spread.py
    entrust: bool = False                   # it is given those of this node
    node_key: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class MaskDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    """Who may `browse` and no more is not shown these parts of payloads; see mesh/identity/masks.py."""

    topics: Texts = ()
    fields: Texts = ()
    headers: Texts = ()
    key: bool = False
    payload: bool = False
    shown_to: Texts = ()


Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**40)]


class QuotaDocument(Document, frozen=True, kw_only=True, omit_defaults=True):
    """How much each of these users may have, of what is counted by user; nobody named: all who have no quota of their
    own. None: nothing is said. Of several that name a user the lowest counts.
    """

    users: Texts = ()
    connections: Count | None = None        # MQTT sessions, AMQP and Kafka connections, readers over HTTP
    consumers: Count | None = None          # those with a name
    queues: Count | None = None             # that he has declared by AMQP 0-9-1


QUOTAS: Final = ("connections", "consumers", "queues")
KINDS: Final[dict[str, type[Document]]] = {
    "user": UserDocument, "key": KeyDocument, "role": RoleDocument, "policy": PolicyDocument, "peer": PeerDocument,
    "mask": MaskDocument, "quota": QuotaDocument}
Key: TypeAlias = tuple[str, str]            # kind, name


class Stored(msgspec.Struct, frozen=True):
    """One version of a document. body None: it was deleted, which has to be known as long as others may have it.

    number: rises with every version.  node: where it was made.  seen: versions that its author had seen, node → the
    highest number of each; two versions of which neither has seen the other were made at the same time.
    """

    kind: str
    name: str
    body: Body | None
    number: int
    node: str
    seen: dict[str, int]
    author: str = ""
    time_ms: int = 0
    reason: str = ""
    withheld: bool = False          # a stub: it counts elsewhere, and what is in it is not for this node
    by: str = ""                    # the neighbour that we have it from; not told to others

    @property
    def key(self) -> Key:
        return self.kind, self.name

    @property
    def version(self) -> str:
        return f"{self.number}@{self.node}"

    @property
    def rank(self) -> tuple[int, str, str]:
        """The highest one counts. The content is in it, because a node that was wiped may use a number twice. A stub
        is less than what it stands for.
        """
        return self.number, self.node, "" if self.withheld else digest_of(self.body)


def stub_of(stored: Stored) -> Stored:
    """Where it counts, and nothing else of what is in it, or who made it."""
    body: Body = {name: value for name, value in (stored.body or {}).items() if name in PLACES}
    return msgspec.structs.replace(stored, body=body, author="", reason="", withheld=True)


def digest_of(body: Body | None) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()[:16]


def document_of(kind: str, body: Body) -> Document:
    """Raises msgspec.ValidationError, also for a kind that there is not."""
    known = KINDS.get(kind)
    if known is None:
        raise msgspec.ValidationError(f"a document is one of {', '.join(KINDS)}")
    try:
        return msgspec.convert(body, known)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(_explained(str(error), known)) from error


def _explained(text: str, kind: type[Document]) -> str:
    """msgspec's words as "allow[0]: got 'read', expected …": where, and what may stand there."""
    problem, _, place = text.replace("`", "").partition(" - at $.")
    unknown = problem.removeprefix("Object contains unknown field ")
    if unknown != problem:
        return f"{unknown}: there is no such field; known are {', '.join(kind.__struct_encode_fields__)}"
    if problem.startswith("Invalid enum value ") and place.startswith(("allow[", "deny[")):
        problem = f"expected one of {', '.join(action.value for action in Action)}, got {problem.split()[-1]}"
    return f"{place}: {problem[:1].lower()}{problem[1:]}" if place else problem


def body_of(document: Document) -> Body:
    """As it is stored, and as JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(document), type=Body)


def without_secrets(body: Body | None) -> Body | None:
    """For people: hashes are not shown, that there is one is."""
    if body is None:
        return None
    return {name: HIDDEN if name in SECRETS and value else value for name, value in body.items()}


def differences(before: Body | None, after: Body | None) -> Body:
    """Field → [before, after] of those that differ, without secrets: a hash that is another one says so."""
    old, new = before or {}, after or {}
    found: Body = {}
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            secret = name in SECRETS
            shown = [HIDDEN if secret and one else one for one in (old.get(name), new.get(name))]
            found[name] = [shown[0], "(another one)"] if secret and new.get(name) and old.get(name) else shown
    return found


def ms_of(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
