"""What a node asks of its process: open files, thread switches, garbage collection.

Called by service.py. docs/operations.md tells operators about it.
"""
from __future__ import annotations

import gc
import logging
import os
import resource
import sys
from collections.abc import Callable

logger = logging.getLogger(__name__)

# The writer thread comes back from a sync many times a second and needs the interpreter for some microseconds; with
# the default of 5 ms it would wait for the loop's current burst, and every ack with it.
SWITCH_INTERVAL_S = 0.0005

# Events are not tracked by the collector (gc=False), so most of what it looks at in the hot path is short-lived. Rarer
# and larger young collections cost less, and old ones must be rare: each walks everything that the node holds. The
# middle one walks what the last few young ones left: no turn above 20 ms while 100,000 queues are declared.
GC_THRESHOLDS = (10_000, 3, 3_200)

FILES_RESERVED_MAX = 1_000      # open files kept free for segments, indexes and connections that are just closing
LOG_SEGMENTS_MAX = 256          # of these, for sealed segments that are being read
LOG_SPARES = 64                 # descriptors that the log keeps for itself, whoever uses up the rest
LOOK_AGAIN_S = 0.1
OUTGOING_MAX = 1_024            # sockets of webhooks together


def tune_process() -> int:
    """Before anything is opened. Returns the limit of open files."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    return raise_open_files()


def log_segments_max() -> int:
    """How many sealed segments the log may keep open."""
    return max(8, min(LOG_SEGMENTS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16))


def log_spares() -> int:
    return max(4, min(LOG_SPARES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 64))


def raise_open_files() -> int:
    """Each connection is an open file: use all that the hard limit allows. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            logger.warning("the limit of open files stays at %d: %s", soft, error)
    return soft


class OpenFiles:
    """Keeps some open files free for the log: a connection too many must never keep it from starting a segment.

    Accepted connections are counted up from the last look at the process; when the count gets to the bound it looks
    again, at most every LOOK_AGAIN_S. So the common case costs an addition, and nobody has to report a close.
    """

    def __init__(self, limit: int, now_s: Callable[[], float]) -> None:
        self.refused = 0
        self._bound = limit - min(FILES_RESERVED_MAX, limit // 4)
        self._now_s = now_s
        self._count = open_file_count()
        self._looked_s = now_s()

    def may_accept(self) -> bool:
        """Ask once per connection; False means: close it."""
        if self._count >= self._bound and self._now_s() - self._looked_s >= LOOK_AGAIN_S:
            self._looked_s = self._now_s()
            self._count = open_file_count()
        if self._count >= self._bound:
            self.refused += 1
            return False
        self._count += 1
        return True


def outgoing_sockets_max() -> int:
    """How many sockets what we call for our clients may have together, such as webhooks: an eighth of the open files.
    Links and key sets are few, and counted with what is kept free.
    """
    return max(16, min(OUTGOING_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))


def open_file_count() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def freeze_start() -> None:
    """After the start: modules, classes and the recovered log stay for ever; no collection needs to look at them.

    Nor for what a start leaves behind (2,000 small objects, 50 ms to find them). There was none until now:
    see commands/local/node.py.
    """
    gc.freeze()
    gc.enable()
