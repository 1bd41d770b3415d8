"""When to ask whom: a fixed time grid, earliest deadline first. Pure: the time is passed in.

due += period, on a grid shared by all buses. What could not be served in time is skipped and counted, never made up
for in a burst. Points without a period ("asap") get the time that is left, and a guaranteed share of an overfull bus.
Points of a device that are nearly due come along when that saves a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from typing import NamedTuple

from drivers.base import Point

MERGES = 1024
"""Sets of slots that are due together, per bus, whose points are remembered."""
SHARE_AFTER = 1.0
"""Seconds of bus time that timed points may use before a waiting best-effort device gets one turn."""
SOON = 1.0
"""Seconds that the first reading of a point may wait for its phase."""
SLICE = 0.25
"""Seconds of bus time that a best-effort device may be ahead of another."""
NEARLY = 0.05
"""Points come along when they are due within this share of their period: no reading is further off its grid."""

Joins = Callable[[int, tuple[Point, ...], tuple[Point, ...]], bool]
"""(device, points that are due, points that are nearly due) -> whether the latter cost no request of their own."""


@dataclass(slots=True)
class Slot:
    """Points of one device that share a period; `every` None means as often as the bus allows.

    `used` is the bus time that a best-effort device has had, in seconds.
    """

    device: int
    every: float | None
    points: tuple[Point, ...]
    due: float = 0.0
    used: float = 0.0


class Job(NamedTuple):
    """Poll these points of this device now. `missed` counts point readings that were skipped on the grid."""

    device: int
    points: tuple[Point, ...]
    missed: int


class Load(NamedTuple):
    """What the points of one device that share a period cost on the bus, in seconds per poll."""

    device: int
    every: float
    seconds: float


@dataclass(slots=True)
class Schedule:
    """The due times of one bus."""

    timed: list[Slot]
    best_effort: list[Slot]
    joins: Joins | None = None
    _of_device: dict[int, list[int]] = field(default_factory=dict)
    _held: dict[int, float] = field(default_factory=dict)
    _later: list[tuple[float, int, tuple[Point, ...]]] = field(default_factory=list)
    _debt: float = 0.0
    _turn: Slot | None = None
    _level: float = 0.0
    """Bus time that every best-effort device has had, at least."""
    _merged: dict[tuple[int, ...], tuple[Point, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        devices: Sequence[Sequence[Point]],
        start: float,
        phases: Mapping[tuple[int, float], float] | None = None,
        joins: Joins | None = None,
    ) -> Schedule:
        """Build the schedule of the devices' points: everything is due at `start`, and then on its grid.

        A phase moves the grid; what it would keep waiting for longer than SOON is asked at the start all the same.
        """
        timed: list[Slot] = []
        best_effort: list[Slot] = []
        of_device: dict[int, list[int]] = {}
        for index, points in enumerate(devices):
            periods: dict[float | None, list[Point]] = {}
            for point in points:
                periods.setdefault(point.every, []).append(point)
            for every, group in periods.items():
                if every is None:
                    best_effort.append(Slot(index, None, tuple(group), start))
                    continue
                of_device.setdefault(index, []).append(len(timed))
                phase = (phases or {}).get((index, every), 0.0)
                due = start + phase - (every if phase > SOON else 0.0)
                timed.append(Slot(index, every, tuple(group), due))
        return cls(timed, best_effort, joins, of_device)

    def hold(self, device: int, until: float) -> None:
        """Leave this device alone until then; what it misses is counted."""
        self._held[device] = until

    def skip(self, device: int, until: float) -> None:
        """Nothing of this device is due before then: it is not missed."""
        self._held[device] = until
        for index in self._of_device.get(device, ()):
            slot = self.timed[index]
            every = slot.every or 1.0
            slot.due += max(0, ceil((until - slot.due) / every)) * every

    def defer(self, device: int, points: tuple[Point, ...], until: float) -> None:
        """Give these points out once more, then: the device needs a rest between two requests."""
        self._later.append((until, device, points))

    def charge(self, seconds: float) -> None:
        """The last job has used so much bus time."""
        if self._turn is not None:
            self._turn.used += seconds
        elif self.best_effort:
            self._debt += seconds

    def take(self, now: float) -> Job | None:
        """Return the most urgent job and move its slots along the grid; None when nothing is due."""
        self._turn = None
        if self._later:
            earliest = min(self._later, key=lambda later: later[0])
            if earliest[0] <= now:
                self._later.remove(earliest)
                return Job(earliest[1], earliest[2], 0)
        urgent = self._most_urgent(now) if self._debt < SHARE_AFTER else None
        if urgent is None:
            return self._next_best_effort(now) or (self._take_timed(self._most_urgent(now), now))
        return self._take_timed(urgent, now)

    def next_due(self, now: float) -> float:
        """Return the time at which take() has something to give, inf when never."""
        held = self._held.get
        times = [max(slot.due, held(slot.device, 0.0)) for slot in self.timed]
        times += [max(now, held(slot.device, 0.0)) for slot in self.best_effort]
        times += [later[0] for later in self._later]
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
        slots, nearly, missed = [], [], 0
        for index in self._of_device[urgent.device]:
            slot = self.timed[index]
            every = slot.every or 1.0
            if slot.due <= now:
                late = int((now - slot.due) / every)
                slot.due += (late + 1) * every
                missed += late * len(slot.points)
                slots.append(index)
            elif slot.due - now <= NEARLY * every:
                nearly.append(index)
        if nearly and self.joins is not None:
            self._take_along(slots, nearly)
        return Job(urgent.device, self._points_of(tuple(slots)), missed)

    def _take_along(self, slots: list[int], nearly: Iterable[int]) -> None:
        """Add slots that are nearly due and need no request of their own."""
        assert self.joins is not None
        for index in nearly:
            slot = self.timed[index]
            if self.joins(slot.device, self._points_of(tuple(slots)), slot.points):
                slot.due += slot.every or 1.0
                slots.append(index)

    def _points_of(self, slots: tuple[int, ...]) -> tuple[Point, ...]:
        points = self._merged.get(slots)
        if points is None:
            if len(self._merged) >= MERGES:
                self._merged.clear()
            points = tuple(point for index in slots for point in self.timed[index].points)
            self._merged[slots] = points
        return points

    def _next_best_effort(self, now: float) -> Job | None:
        """In turn, but who has had a slice more than another waits: a slow device does not get the time of the rest."""
        if not self.best_effort:
            return None
        slot = self.best_effort[0]
        if slot.used > self._level + SLICE or self._held.get(slot.device, 0.0) > now:
            ready = [slot for slot in self.best_effort if self._held.get(slot.device, 0.0) <= now]
            if not ready:
                return None
            self._level = max(self._level, min(slot.used for slot in ready))
            slot = next(slot for slot in ready if slot.used <= self._level + SLICE)
        slot.used = max(slot.used, self._level)  # it was away: what it did not use meanwhile is gone
        self.best_effort.remove(slot)
        self.best_effort.append(slot)
        self._turn, self._debt = slot, 0.0
        return Job(slot.device, slot.points, 0)


def phases(loads: Sequence[Load]) -> dict[tuple[int, float], float]:
    """Spread a serial bus over the grid, when what is due together takes more than half of the shortest period.

    Returns {(device, every): seconds behind the grid}; slots of one device stay together where one period is a
    multiple of the other, so that they still share requests.
    """
    if not loads or sum(load.seconds for load in loads) <= min(load.every for load in loads) / 2:
        return {}
    found: dict[tuple[int, float], float] = {}
    used = dict.fromkeys({load.every for load in loads}, 0.0)
    whole = {every: sum(load.seconds for load in loads if load.every == every) or 1.0 for every in used}
    for load in sorted(loads, key=lambda load: (load.every, load.device)):
        every = load.every
        offset = every * used[every] / whole[every]
        used[every] += load.seconds
        faster = [f for device, f in found if device == load.device and not every % f]
        if faster:
            base = found[load.device, faster[0]]
            offset = (base + faster[0] * round((offset - base) / faster[0])) % every
        found[load.device, every] = offset
    return found
