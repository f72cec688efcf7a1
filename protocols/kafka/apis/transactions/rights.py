"""Who may use a transactional id, and the codes of what the coordinator refuses."""
from __future__ import annotations

from protocols.kafka.api import Call
from protocols.kafka.codec.errors import Code
from protocols.kafka.log.appending import code_of
from routing.errors import Reason, Refusal
from routing.rights.policy import Action

_CODES = {Reason.QUOTA_EXCEEDED: Code.COORDINATOR_NOT_AVAILABLE, Reason.STORAGE_FULL: Code.COORDINATOR_NOT_AVAILABLE,
          Reason.STORAGE_FAILED: Code.COORDINATOR_NOT_AVAILABLE}


def may_use(call: Call, transactional_id: str) -> bool:
    """Its owner, which is who took it first, and who may operate."""
    found = call.broker.router.transactions.by_id.get(transactional_id)
    return found is None or found.owner == call.identity.user or call.broker.topics.may(call.identity, Action.OPERATE)


def code_of_transaction(refusal: Refusal) -> Code:
    return code_of(refusal) if refusal.fault is not None else _CODES.get(refusal.reason) or code_of(refusal)
