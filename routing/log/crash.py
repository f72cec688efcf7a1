"""Named points where a test can end the process as kill -9 would: CRASH_AT=point:n in the environment, n-th pass.

before_write after_write before_sync after_sync     each commit, in this order
before_journal after_journal                        each record of the shared journal
in_roll after_roll                                  between sealing a segment and using the next
in_compaction                                       before and after each change of names
in_delete                                           after each file of a stream that is deleted
in_lifting                                          before and after what is owed to queues has its names
at_index_save                                       before and while sidecars are written
"""
from __future__ import annotations

import os

_point, _, _pass = os.environ.get("CRASH_AT", "").partition(":")
_passes_left = {_point: int(_pass or 1)} if _point else {}


def crash_point(name: str) -> None:
    """End the process here if it was asked for. Costs one lookup in an empty dictionary otherwise."""
    if name in _passes_left:
        _passes_left[name] -= 1
        if _passes_left[name] == 0:
            os._exit(137)


def crash_is_due() -> bool:
    """Is the process to end at some point?"""
    return bool(_passes_left)
