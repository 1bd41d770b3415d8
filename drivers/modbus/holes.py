"""Ranges that a device does not read across, as it has taught; each is tried again some time.

One sporadic refusal must not cost a request in each poll for ever: a hole is read again after an hour, and when it is
refused again after two, and so on, up to a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from drivers.modbus.plan import Range

FIRST_TRIAL, LAST_TRIAL = 3600.0, 86400.0
"""Seconds until a hole is tried again."""


class Holes:
    """The holes of one device. How many = 0 is a border. `wake` is when the next trial is due, monotonic seconds."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self.ranges = tuple(ranges)
        self.wake = -inf if self.ranges else inf
        self._until: dict[Range, float] = {}
        self._rest: dict[Range, float] = {}

    def learn(self, hole: Range, now: float) -> bool:
        """The device refused it; true when that is news."""
        if hole in self.ranges:
            return False
        rest = self._rest[hole] = min(2 * self._rest.get(hole, FIRST_TRIAL / 2), LAST_TRIAL)
        self._until[hole] = now + rest
        self.wake = min(self.wake, now + rest)
        self.ranges += (hole,)
        return True

    def forget(self, hole: Range) -> bool:
        """The device answered it; true when it was a hole."""
        if hole not in self.ranges:
            return False
        self.ranges = tuple(known for known in self.ranges if known != hole)
        self._until.pop(hole, None)
        self._rest.pop(hole, None)
        return True

    def wake_up(self, now: float) -> None:
        """Let go of those that are to be tried again; the time of those from an earlier run begins now."""
        for hole in self.ranges:
            self._until.setdefault(hole, now + FIRST_TRIAL)
            self._rest.setdefault(hole, FIRST_TRIAL)
        for hole in [hole for hole, until in self._until.items() if until <= now]:
            del self._until[hole]
        self.ranges = tuple(hole for hole in self.ranges if hole in self._until)
        self.wake = min(self._until.values(), default=inf)
