"""Is the other side still there? Asked by a ping after a silence; half of that later it is taken for dead. Pure.

Whatever arrives is a sign of life, and so is a slow line that still takes what was written before the ping.
"""

from __future__ import annotations

PING, DEAD = "ping", "dead"


class Pulse:
    """Notices within 1.5 periods (seconds) that nothing comes any more, when it looks every `tick`."""

    def __init__(self, period: float) -> None:
        self._period = period
        self.tick = min(1.0, period / 20)
        self._patience = period / 2 - 2 * self.tick  # from the last sign of life: period + tick + patience + tick
        self._asked: float | None = None
        self._ahead = 0

    def look(self, now: float, *, heard: float, said: float, unsent: int) -> str:
        """Return PING, DEAD or "". `heard` and `said`: when something came and left; `unsent`: bytes not yet there."""
        if self._asked is not None:
            if heard > self._asked:
                self._asked = None
            elif unsent < self._ahead:
                self._asked, self._ahead = now, unsent
            elif now - self._asked >= self._patience:
                return DEAD
        elif now - min(heard, said) >= self._period:
            self._asked, self._ahead = now, unsent
            return PING
        return ""
