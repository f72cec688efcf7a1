"""Policies that clients change: the seam between a protocol that can say who may do what (Kafka's ACLs) and the managed
documents of the node (docs/administration.md).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from routing.errors import Refusal
from routing.rights.policy import Identity, Rule

CHANGES_MAX = 100           # in one step: some 150 KiB of documents, below the bound of a revision


class PolicyChange(msgspec.Struct, frozen=True):
    """What is to become of the managed policy of a name. rule None: it goes, if it is there."""

    name: str
    rule: Rule | None
    description: str = ""


class Policies(Protocol):
    """Loop thread only."""

    def in_force(self, beginning: str) -> Iterator[Rule]:
        """Managed policies whose names begin so, as their documents say. Drawn from in steps: there may be many."""

    def refuse(self, identity: Identity, act: str) -> Refusal | None:
        """Whether somebody may change policies. A no is counted, listed and in the audit trail."""

    def change(self, identity: Identity, act: str, changes: Sequence[PolicyChange],
               done: Callable[[Refusal | None], None]) -> None:
        """All of them in one step, or none: on record, on disk and in force when done is told None.

        At most CHANGES_MAX. act: as in the audit trail, "kafka.acls.create". Who may is not asked again.
        """

    def record(self, identity: Identity, act: str, target: str, after: object,
               done: Callable[[Refusal | None], None]) -> None:
        """What a protocol keeps for itself (SCRAM passwords) is on record before it is done; a refusal: it may not be.

        after: without secrets.
        """

    def note_denial(self, identity: Identity, act: str, why: str) -> None:
        """The same of what somebody tried who may not."""
