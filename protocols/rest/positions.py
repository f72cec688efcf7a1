"""Where an SSE reader begins: protocols/start.py, with its errors as problems."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.location import Vector
from protocols.rest.problems import Problem
from protocols.start import StartInvalid, StartLost
from protocols.start import start_vector as find_start

if TYPE_CHECKING:
    from routing.log.partition import Partition


def start_vector(text: str, partitions: list[Partition], epoch: str) -> Vector:
    """See protocols.start.start_vector. Raises Problem (400, 410)."""
    try:
        return find_start(text, partitions, epoch)
    except StartInvalid as error:
        raise Problem(400, "position-invalid", str(error)) from None
    except StartLost as error:
        raise Problem(410, "position-lost", str(error)) from None
