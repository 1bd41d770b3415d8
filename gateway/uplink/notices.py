"""Events of the uplink on their way into the store, which may be full: few, bounded, ranges exact. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from math import inf
from typing import Any

from gateway.model import Ranges, event
from gateway.spans import Spans

MOST_EVENTS = 256
"""Transitions that wait. Beyond that the oldest goes: what came later says how it is now."""
_TOLD = 200  # ranges of one event
_MOST = 5000  # ranges that wait

DEAD_LETTER = "dead-letter"
DEAD_LETTER_EVERY, NOT_STORED_EVERY = 60.0, 1.0


class Gathered:
    """Spans of batches that are told as exact ranges: soon the first time, then at most once in `every` seconds."""

    def __init__(self, every: float, gather: float) -> None:
        self._every, self._gather = every, gather
        self._spans: dict[tuple[str, str], Spans] = {}
        self._due = -inf

    def add(self, epoch: str, stream: str, ranges: Ranges, now: float) -> None:
        """Take numbers."""
        if not self._spans:
            self._due = max(self._due, now + self._gather)
        spans = self._spans.setdefault((epoch, stream), Spans())
        for first, last in ranges:
            spans.add(first, last)

    @property
    def due(self) -> float:
        """When something is to be told; infinity: never."""
        return self._due if self._spans else inf

    def is_due(self, now: float) -> bool:
        """Whether something is to be told now."""
        return bool(self._spans) and now >= self._due

    @property
    def waiting(self) -> int:
        """How many ranges wait, about."""
        return sum(1 for spans in self._spans.values() for _ in spans)

    def take(self, now: float) -> list[dict[str, Any]]:
        """Return as many ranges as fit into one event: [{epoch, stream, ranges}]."""
        told, room = [], _TOLD
        for (epoch, stream), spans in list(self._spans.items()):
            some = list(islice(iter(spans), room))
            for first, last in some:
                spans.remove(first, last)
            if not spans:
                del self._spans[epoch, stream]
            told.append({"epoch": epoch, "stream": stream, "ranges": [list(span) for span in some]})
            room -= len(some)
            if not room:
                break
        self._due = now + self._every
        return told


class Notices:
    """What is to be stored as events. `due` gives it, when the store has taken what was given before."""

    def __init__(self, *, dead_letter_every: float = DEAD_LETTER_EVERY, gather: float = 1.0) -> None:
        self._every, self._gather = dead_letter_every, gather
        self._events: deque[dict[str, Any]] = deque(maxlen=MOST_EVENTS)
        self._dead: dict[str, Gathered] = {}
        self._missing = Gathered(NOT_STORED_EVERY, 0.0)
        self.untold = 0
        """Events that found no room, and ranges that nobody was told are missing."""

    def tell(self, *events: Mapping[str, Any]) -> None:
        """Take events; there is one per transition."""
        for body in events:
            self.untold += len(self._events) == MOST_EVENTS
            self._events.append(dict(body))

    def dead(self, key: tuple[str, str, int], reason: str, now: float) -> None:
        """A batch became a dead letter. There are few reasons."""
        epoch, stream, seq = key
        gathered = self._dead.setdefault(reason, Gathered(self._every, self._gather))
        gathered.add(epoch, stream, ((seq, seq),), now)

    @property
    def full(self) -> bool:
        """Whether no further dead letter should be made before some are told: their ranges must stay exact."""
        return any(gathered.waiting >= _MOST for gathered in self._dead.values())

    def missing(self, epoch: str, stream: str, ranges: Ranges, now: float) -> None:
        """The IOC has asked for batches that are not stored. Too many ranges at once are not told: it asks again."""
        room = max(0, _MOST - self._missing.waiting)
        self.untold += len(ranges[room:])
        if ranges[:room]:
            self._missing.add(epoch, stream, ranges[:room], now)

    def rest(self, now: float) -> float:
        """Seconds until `due` gives something; infinity: nothing waits."""
        if self._events:
            return 0.0
        return max(0.0, min(self._missing.due, *(one.due for one in self._dead.values()), inf) - now)

    def due(self, now: float) -> dict[str, Any] | None:
        """Give the next event that is to be stored now."""
        if self._events:
            return self._events.popleft()
        for reason, gathered in self._dead.items():
            if gathered.is_due(now):
                return _dead_letter(gathered.take(now), reason)
        return _not_stored(self._missing.take(now)) if self._missing.is_due(now) else None

    def last(self) -> list[dict[str, Any]]:
        """Give everything at once: the agent stops."""
        events: list[dict[str, Any]] = []
        while (body := self.due(inf)) is not None and len(events) < MOST_EVENTS:
            events.append(body)
        return events


def _dead_letter(dropped: list[dict[str, Any]], reason: str) -> dict[str, Any]:
    return event(
        DEAD_LETTER,
        f"The broker will not take these messages: {reason}. They stay on the gateway's disk as dead letters.",
        severity="error",
        cause="The broker's access list or a rule of the broker refuses them.",
        advice="Mend the rule at the broker, then ask for them with dn/resend; those of a closed topic come by "
        "themselves.",
        data={"dropped": dropped, "reason": reason},
    )


def _not_stored(missing: list[dict[str, Any]]) -> dict[str, Any]:
    return event(
        "not-stored",
        "The IOC has asked for messages that this gateway does not have.",
        severity="info",
        cause="They were confirmed and freed, or were never written: the numbers above the last one after a power cut.",
        advice="Count them as lost, unless the IOC has them from elsewhere. store.keep_acked keeps more.",
        data={"missing": missing},
    )
