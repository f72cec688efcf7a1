"""What went wrong with a command, as the user reads it."""
from __future__ import annotations

from routing.errors import MeshgateError


class CommandError(MeshgateError):
    """What the user reads after "meshgate: "; exit code 1."""


class RefusedError(CommandError):
    """The node has answered, and the answer is no: to ask again changes nothing."""
