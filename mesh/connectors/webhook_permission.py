"""The abuse-protection handshake: a receiver says whether it wants our events, and how many. Time is an argument.

    OPTIONS  WebHook-Request-Origin: graz-1   WebHook-Request-Rate: 120
    200      WebHook-Allowed-Origin: graz-1 (or *)   WebHook-Allowed-Rate: 120 (or *)

Source: CloudEvents HTTP 1.1 Web Hooks 1.0.2 §4. A receiver that does not know it answers 405 or without the field: then
nothing is sent there.
"""
from __future__ import annotations

from mesh.connectors.webhook_client import Outcome
from routing.consumers.definition.push import Push

ASK_AGAIN_FIRST_S = 5.0
ASK_AGAIN_MAX_S = 300.0
RATE_MAX = 1_000_000


class Permission:
    """Of one webhook."""

    def __init__(self, push: Push, origin: str, age_s: float) -> None:
        self.origin = origin
        self.rate_per_minute = push.rate_per_minute
        self.wanted_rate = None if push.rate_per_minute is None else str(push.rate_per_minute)
        self._own_rate = push.rate_per_minute
        self._needed = push.handshake if push.handshake is not None else push.format.startswith("cloudevents")
        self._age_s = age_s
        self._until_s = 0.0
        self._ask_at_s = 0.0
        self._wait_s = ASK_AGAIN_FIRST_S

    def granted(self, now_s: float) -> bool:
        return not self._needed or now_s < self._until_s

    def may_ask(self, now_s: float) -> bool:
        return now_s >= self._ask_at_s

    def next_s(self, now_s: float) -> float | None:
        """When it may be asked for; None when it is not needed now."""
        return None if self.granted(now_s) else self._ask_at_s

    def answered(self, outcome: Outcome, now_s: float) -> str:
        """Take the receiver's answer. Returns what is wrong with it, "" when it agreed."""
        allowed = (outcome.allowed_origin or "").strip()
        if outcome.taken and allowed in ("*", self.origin):
            self._until_s = now_s + self._age_s
            self._wait_s = ASK_AGAIN_FIRST_S
            self._take_rate((outcome.allowed_rate or "*").strip())
            return ""
        self._ask_at_s = now_s + self._wait_s
        self._wait_s = min(self._wait_s * 2, ASK_AGAIN_MAX_S)
        if not outcome.status:
            return f"the handshake got no answer: {outcome.text}"[:200]
        if not outcome.taken:
            return f"the receiver answered the handshake with HTTP {outcome.status}"
        return "the receiver's answer to the handshake does not allow this node (WebHook-Allowed-Origin)"

    def _take_rate(self, text: str) -> None:
        rates = [self._own_rate] if self._own_rate is not None else []
        if text.isascii() and text.isdigit() and len(text) <= 9:
            rates.append(min(max(int(text), 1), RATE_MAX))
        self.rate_per_minute = min(rates) if rates else None
