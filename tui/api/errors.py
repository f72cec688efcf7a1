"""Why the node did not answer as asked: one line for a person, and what to do about it."""
from __future__ import annotations

import enum


class Fault(enum.Enum):
    """What the dashboard does next depends on it."""

    AWAY = "away"               # nobody answers: try again
    LOGIN = "login"             # 401: ask for a password
    DENIED = "denied"           # 403
    MISSING = "missing"         # 404: this node does not have it
    WRONG = "wrong"             # another 4xx: what was asked makes no sense
    SETUP = "setup"             # certificate, address: trying again does not help


class ApiError(Exception):
    """text: one line, without a dot at its end."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
