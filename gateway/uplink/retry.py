"""When to try again: soon after a short outage, spread out after a long one, rarely beside a rival. Pure."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from gateway.model import event

STORM, WITHIN = 3, 60.0
"""So many takeovers within so many seconds: there is a rival."""
_RIVAL = (30.0, 60.0)
"""Seconds between two attempts beside a rival."""
_SHARE = 0.04
"""Of an outage so far: a delay this long adds little to it, and spreads the gateways that all wait for one broker."""


class Retry:
    """The delay before the next attempt to connect: full jitter, growing with the outage.

    `first` and `last` bound the longest delay; a connection that held for `steady` seconds ends an outage.
    """

    def __init__(self, first: float, last: float, steady: float, now: float) -> None:
        self._first, self._last, self._steady = first, last, steady
        self._since = now
        self._takeovers: deque[float] = deque(maxlen=STORM)
        self.rival = False
        """Whether another client seems to use this gateway's id."""

    def ended(self, began: float, now: float) -> list[dict[str, Any]]:
        """A connection that began then has ended now. Returns events."""
        if now - began >= self._steady:
            self._since = now
        return self.lasted(began, now)

    def taken_over(self, now: float) -> list[dict[str, Any]]:
        """Another client had, or has, this gateway's session. Returns events."""
        self._takeovers.append(now)
        if self.rival or len(self._takeovers) < STORM or now - self._takeovers[0] > WITHIN:
            return []
        self.rival = True
        return [_rival()]

    def lasted(self, began: float, now: float) -> list[dict[str, Any]]:
        """The connection that began then still holds. Returns events."""
        if not self.rival or now - began < WITHIN:
            return []
        self.rival = False
        self._takeovers.clear()
        return [event("session-takeover", "The connection holds again.", raised=False, severity="info")]

    def delay(self, now: float) -> float:
        """Seconds until the next attempt."""
        if self.rival:
            return random.uniform(*_RIVAL)
        return random.uniform(0, self.longest(now))

    def longest(self, now: float) -> float:
        """The longest delay that may be drawn now."""
        return min(self._last, max(self._first, _SHARE * (now - self._since)))


def _rival() -> dict[str, Any]:
    return event(
        "session-takeover",
        f"Another client has taken over this gateway's session at the broker, {STORM} times within a minute.",
        severity="critical",
        cause="A second gateway runs with the same gateway.id: often a copied SD card, or an old one still running.",
        advice="Find the second gateway and give it an id of its own. Until then both deliver now and then, and the "
        "messages of the IOC reach one of them.",
    )
