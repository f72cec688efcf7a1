"""A wall clock that jumps: a library that is loaded before libc and adds to the time of day what a file says.

    shim = ClockShim(folder)                    # needs a C compiler
    Node(…, environment=shim.environment)
    shim.jump(-3_600_000)                       # milliseconds, from now on, for every process that has it

Monotonic time is left alone, as it is when an operator or NTP sets a clock. Debian's libfaketime does not work with
Python 3.11, see reliability.md.
"""
from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_ms;

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("MESHGATE_TEST_CLOCK");
    int handle = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (handle < 0) return;
    void *page = mmap(NULL, 8, PROT_READ, MAP_SHARED, handle, 0);
    if (page != MAP_FAILED) offset_ms = page;
    close(handle);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int result = syscall(SYS_clock_gettime, clock, out);
    if (result == 0 && offset_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ms = *offset_ms, ns = out->tv_nsec + (ms % 1000) * 1000000;
        out->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
        out->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


class ClockShim:
    """One clock for all processes that get `environment`. Raises RuntimeError without a compiler."""

    def __init__(self, folder: Path) -> None:
        found = compiler()
        if found is None:
            raise RuntimeError("no C compiler")
        folder.mkdir(parents=True, exist_ok=True)
        source, library, self._file = folder / "clock.c", folder / "clock.so", folder / "clock.offset"
        source.write_text(_SOURCE)
        subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        self.offset_ms = 0
        self._file.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(library), "MESHGATE_TEST_CLOCK": str(self._file)}

    def jump(self, milliseconds: int) -> None:
        self.offset_ms += milliseconds
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", self.offset_ms))
