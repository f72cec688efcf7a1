"""A newcomer with the name of a node that is linked already, as another process: which of the two is alive?

The connections that are there are asked for a sign of life. One that answers is alive, so the newcomer is an impostor
or a copied configuration; none answers within the patience, and the newcomer is the node after a restart.
"""
from __future__ import annotations

import msgspec

from mesh.link.protocol.session import Phase
from mesh.link.transport import LinkConnection


class _Question(msgspec.Struct):
    newcomer: LinkConnection
    rivals: list[tuple[LinkConnection, int]]       # with the pongs that each had given before
    until_s: float


class Rivals:
    """Questions under way."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._questions: list[_Question] = []

    def ask(self, newcomer: LinkConnection, rivals: list[LinkConnection], now_s: float, now_ms: int) -> None:
        for rival in rivals:
            rival.session.probe(now_s, now_ms)
            rival.wake()
        known = [(rival, rival.session.health.last_ping) for rival in rivals]
        self._questions.append(_Question(newcomer, known, now_s + self._patience_s))

    def settled(self, now_s: float) -> list[tuple[LinkConnection, bool]]:
        """Newcomers whose question is answered: True when a rival is alive."""
        answers: list[tuple[LinkConnection, bool]] = []
        for question in list(self._questions):
            alive = any(rival.session.health.answered >= ping for rival, ping in question.rivals)
            gone = all(rival.lost or rival.session.phase is not Phase.UP for rival, _ in question.rivals)
            if alive or gone or now_s >= question.until_s or question.newcomer.lost:
                self._questions.remove(question)
                answers.append((question.newcomer, alive))
        return answers
