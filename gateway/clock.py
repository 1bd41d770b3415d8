"""The only module that asks for the time."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SYNCED, HOLDOVER, UNSYNCED, CORRECTED = "synced", "holdover", "unsynced", "corrected"

_TIME_ERROR = 5  # adjtimex(2): the kernel says that the clock is not synchronised
_TIMEX_BYTES = 512  # struct timex is 208 bytes on 64-bit Linux; modes = 0 reads only


def kernel_is_synchronised() -> bool:
    """Whether the kernel believes that its clock is set (adjtimex(2)). False where the call does not exist."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except AttributeError:
        return False
    return bool(0 <= state < _TIME_ERROR)


def boot_id() -> str:
    """12 hex digits that name this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").replace("-", "")[:12]


@dataclass
class Clock:
    """Wall time, monotonic time and whether the first can be trusted.

    `trust` is "kernel" or "system" (believe the wall clock, for demos and virtual machines). The callables exist so
    that a test can turn the hands.
    """

    trust: str = "kernel"
    boot: str = ""
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    synchronised: Callable[[], bool] = kernel_is_synchronised
    state: str = UNSYNCED

    def __post_init__(self) -> None:
        self.boot = self.boot or boot_id()
        self.look()

    def look(self) -> bool:
        """Ask the kernel once more; true when the state has changed."""
        before = self.state
        if self.trust == "system" or self.synchronised():
            self.state = SYNCED
        elif self.state == SYNCED:
            self.state = HOLDOVER
        return self.state != before

    def second_of_day(self) -> int:
        """Second of the local day, 0..86399."""
        local = time.localtime(self.wall())
        return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec

    def mono_ms(self) -> int:
        """Monotonic time of this boot in ms."""
        return int(self.monotonic() * 1000)

    def anchor(self) -> int:
        """Wall time minus monotonic time in ms: wall = anchor + monotonic."""
        return round((self.wall() - self.monotonic()) * 1000)
