"""Is a device alive? Pure: the time is passed in.

A device is dead when two polls in a row failed and more than three seconds passed since it last answered. A dead
device is probed with a growing delay, so that it costs its neighbours on the bus almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

DEAD_AFTER_POLLS = 2
DEAD_AFTER_SECONDS = 3.0
FIRST_DELAY = 2.0
LAST_DELAY = 60.0


@dataclass(slots=True)
class Health:
    """What is known of one device. Times are monotonic seconds."""

    last_good: float
    failures: int = 0
    dead: bool = False
    delay: float = FIRST_DELAY
    probes: int = 1

    def good(self, now: float) -> bool:
        """It answered; true when it was dead before."""
        returned = self.dead
        self.last_good, self.failures, self.dead, self.delay, self.probes = now, 0, False, FIRST_DELAY, 1
        return returned

    def failed(self, now: float) -> bool:
        """It did not answer; true when it is dead from now on."""
        self.failures += 1
        if self.dead:
            self.delay = min(self.delay * 2, LAST_DELAY)
            return False
        self.dead = self.failures >= DEAD_AFTER_POLLS and now - self.last_good > DEAD_AFTER_SECONDS
        return self.dead
