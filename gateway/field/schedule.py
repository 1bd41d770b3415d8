"""When to ask whom: a fixed time grid, earliest deadline first. Pure: the time is passed in.

due += period, on a grid shared by all buses. What could not be served in time is skipped and counted, never made up
for in a burst. Points without a period ("asap") get the time that is left, and a guaranteed share of an overfull bus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from drivers.base import Point

MERGES = 1024
"""Sets of slots that are due together, per bus, whose points are remembered."""
SHARE_AFTER = 1.0
"""Seconds of bus time that timed points may use before a waiting best-effort device gets one turn."""


@dataclass(slots=True)
class Slot:
    """Points of one device that share a period; `every` None means as often as the bus allows."""

    device: int
    every: float | None
    points: tuple[Point, ...]
    due: float = 0.0


class Job(NamedTuple):
    """Poll these points of this device now. `missed` counts point readings that were skipped on the grid."""

    device: int
    points: tuple[Point, ...]
    missed: int


@dataclass(slots=True)
class Schedule:
    """The due times of one bus."""

    timed: list[Slot]
    best_effort: deque[Slot]
    _held: dict[int, float] = field(default_factory=dict)
    _debt: float = 0.0
    _merged: dict[tuple[int, ...], tuple[Point, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, devices: Sequence[Sequence[Point]], start: float) -> Schedule:
        """Build the schedule of the devices' points; everything is due at `start`."""
        timed: list[Slot] = []
        best_effort: deque[Slot] = deque()
        for index, points in enumerate(devices):
            periods: dict[float | None, list[Point]] = {}
            for point in points:
                periods.setdefault(point.every, []).append(point)
            for every, group in periods.items():
                slot = Slot(index, every, tuple(group), start)
                if every is None:
                    best_effort.append(slot)
                else:
                    timed.append(slot)
        return cls(timed, best_effort)

    def hold(self, device: int, until: float) -> None:
        """Leave this device alone until then."""
        self._held[device] = until

    def charge(self, seconds: float) -> None:
        """Timed points have used so much bus time."""
        if self.best_effort:
            self._debt += seconds

    def take(self, now: float) -> Job | None:
        """Return the most urgent job and move its slots along the grid; None when nothing is due."""
        urgent = self._most_urgent(now) if self._debt < SHARE_AFTER else None
        if urgent is None:
            return self._next_best_effort(now) or (self._take_timed(self._most_urgent(now), now))
        return self._take_timed(urgent, now)

    def next_due(self, now: float) -> float:
        """Return the time at which take() has something to give, inf when never."""
        held = self._held.get
        times = [max(slot.due, held(slot.device, 0.0)) for slot in self.timed]
        times += [max(now, held(slot.device, 0.0)) for slot in self.best_effort]
        return min(times, default=inf)

    def _most_urgent(self, now: float) -> Slot | None:
        held = self._held.get
        urgent, deadline = None, inf
        for slot in self.timed:
            if slot.due <= now and held(slot.device, 0.0) <= now:
                slot_deadline = slot.due + (slot.every or 0.0)
                if slot_deadline < deadline:
                    urgent, deadline = slot, slot_deadline
        return urgent

    def _take_timed(self, urgent: Slot | None, now: float) -> Job | None:
        if urgent is None:
            return None
        slots, missed = [], 0
        for index, slot in enumerate(self.timed):
            if slot.device == urgent.device and slot.due <= now:
                every = slot.every or 1.0
                late = int((now - slot.due) / every)
                slot.due += (late + 1) * every
                missed += late * len(slot.points)
                slots.append(index)
        return Job(urgent.device, self._points_of(tuple(slots)), missed)

    def _points_of(self, slots: tuple[int, ...]) -> tuple[Point, ...]:
        points = self._merged.get(slots)
        if points is None:
            if len(self._merged) >= MERGES:
                self._merged.clear()
            points = tuple(point for index in slots for point in self.timed[index].points)
            self._merged[slots] = points
        return points

    def _next_best_effort(self, now: float) -> Job | None:
        for _ in range(len(self.best_effort)):
            slot = self.best_effort[0]
            self.best_effort.rotate(-1)
            if self._held.get(slot.device, 0.0) <= now:
                self._debt = 0.0
                return Job(slot.device, slot.points, 0)
        return None
