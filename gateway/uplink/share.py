"""How much backlog may be on its way beside live data: as much as the line takes at once. Pure."""

from __future__ import annotations

from math import inf

_LONG = 0.5
"""Seconds beyond twice the quickest answer: a live batch should not wait longer behind backlog."""


class Share:
    """Batches of backlog that may be unanswered, from 1 to `most`.

    One more after each answer that came soon, half as many after one that took long: on a slow line what is written
    waits in the buffers of TCP, and live data would wait behind it.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._now = 1.0
        self._quickest = inf

    def admits(self, unanswered: int) -> bool:
        """Whether one more may be sent."""
        return unanswered + 1 <= self._now

    def answered(self, seconds: float) -> None:
        """A batch of backlog was answered after so long."""
        self._quickest = min(self._quickest, seconds)
        if seconds <= 2 * self._quickest + _LONG:
            self._now = min(self._most, self._now + 1)
        else:
            self._now = max(1.0, self._now / 2)
