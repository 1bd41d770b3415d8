"""What a device has refused: which points, since when, and when they are asked for again.

A point that has answered once is asked for every time, whatever the device says. One that never has, and was refused
often enough for long enough, rests: asking for it each time would cost the others a request for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from drivers.base import Point, Sample

ENOUGH = 3
"""Refusals, the first and the last of them at least FIRST_REST apart, after which a point rests."""
FIRST_REST, LONGEST_REST = 10.0, 3600.0
"""Seconds; each refusal after a rest doubles the next one."""


@dataclass(slots=True)
class _Refusal:
    """One point's record: the last code, when it began, how often, and the rest it has; `until` None: it does not."""

    code: int
    since: float
    times: int = 0
    rest: float = FIRST_REST / 2
    until: float | None = None


class Refusals:
    """The points of one device, known by name."""

    def __init__(self) -> None:
        self.wake = inf
        """When the next rest ends, monotonic seconds."""
        self._answered: set[str] = set()
        self._refused: dict[str, _Refusal] = {}

    def answered(self, points: Sequence[Point]) -> None:
        """These gave a value."""
        for point in points:
            self._answered.add(point.name)
            self._refused.pop(point.name, None)

    def refused(self, point: Point, code: int, now: float) -> bool:
        """Note a refusal; true when the point rests from now on."""
        if point.name in self._answered:
            return False
        refusal = self._refused.setdefault(point.name, _Refusal(code, now))
        refusal.code = code
        refusal.times += 1
        if refusal.times < ENOUGH or now - refusal.since < FIRST_REST:
            return False
        refusal.rest = min(2 * refusal.rest, LONGEST_REST)
        refusal.until = now + refusal.rest
        self.wake = min(self.wake, refusal.until)
        return True

    def rests(self, point: Point) -> bool:
        """Whether the point is not to be asked for now."""
        refusal = self._refused.get(point.name)
        return refusal is not None and refusal.until is not None

    def samples(self, points: Sequence[Point]) -> list[Sample]:
        """What is remembered of points that rest."""
        return [Sample(point.name, None, f"bad:exception-{self._refused[point.name].code}") for point in points]

    def wake_up(self, now: float) -> None:
        """End the rests that are over."""
        for refusal in self._refused.values():
            if refusal.until is not None and refusal.until <= now:
                refusal.until = None
        self.wake = min((refusal.until for refusal in self._refused.values() if refusal.until is not None), default=inf)
