"""What outlives a connection, and the times that all parts of the uplink keep."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from gateway.model import Ranges
from gateway.uplink.budget import Budget
from gateway.uplink.counters import Counters
from gateway.uplink.holds import Holds
from gateway.uplink.notices import Notices

LARGEST, SMALLEST = 2**20, 1024
"""Bytes of a message, where the broker names no limit."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. Tests turn them; the values here are the product's."""

    tick: float = 1.0
    speak: float = 5.0
    """How often the gateway looks whether there is something new to say about itself, and gives births on request."""
    watch: float = 60.0
    """How often certificates are looked at, and what a restart must know is written down."""
    retry_first: float = 1.0
    retry_last: float = 30.0
    """The longest delay before an attempt to connect is 4 % of the outage so far, between these two."""
    steady: float = 10.0
    """A connection that lasted so long was a good one: the next retry is quick again."""
    confirm_within: float = 30.0
    """With confirm = "ioc": what is not acknowledged by then is sent again."""
    overtaken: float = 2.0
    """What the IOC passes over in favour of batches sent so much later has not reached it: it is sent again."""
    stall: float = 60.0
    """A broker that acknowledges nothing for so long is left."""
    unconfirmed: int = 256
    """With confirm = "ioc": so many batches may wait for the IOC's word."""


@dataclass(slots=True)
class Desk:
    """Counters, holds, what is too large, what the link may carry, events on their way to the store."""

    counters: Counters = field(default_factory=Counters)
    holds: Holds = field(default_factory=Holds)
    budget: Budget = field(default_factory=lambda: Budget(0, 0))
    largest: int = LARGEST
    """Bytes of a message: less once a broker has shown that it takes less."""
    notices: Notices = field(default_factory=Notices)
    """To be stored: not by the pump, because a full store may wait for the pump."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something in `notices`."""

    def tell(self, *events: dict[str, Any]) -> None:
        """Raise or clear events; there is one per transition."""
        if events:
            self.notices.tell(*events)
            self.news.set()

    def dead(self, key: tuple[str, str, int], reason: str, now: float) -> None:
        """A batch became a dead letter."""
        self.notices.dead(key, reason, now)
        self.news.set()

    def missing(self, epoch: str, stream: str, ranges: Ranges, now: float) -> None:
        """The IOC has asked for what is not stored."""
        self.notices.missing(epoch, stream, ranges, now)
        self.news.set()
