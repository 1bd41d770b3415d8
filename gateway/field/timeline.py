"""What the agent will do on a bus, second by second: its own schedule on a time that only exists here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drivers import create
from drivers.base import Driver
from gateway.field.cost import planned
from gateway.field.grid import loads, polled, schedule_of
from gateway.field.schedule import Job, Schedule
from gateway.model import Bus

LONGEST, SHORTEST = 120.0, 10.0
"""Seconds that are looked at: one longest period, within these."""
MOST = 50_000
"""Requests of a timeline: a bus of "asap" points has no end of them."""


class Mark(NamedTuple):
    """One request: when it begins and how long it takes, in seconds. `every` is the shortest period it serves."""

    device: int
    at: float
    seconds: float
    every: float | None
    points: int


class Timeline(NamedTuple):
    """The first `seconds` of a bus on which every device answers. `missed` counts readings that were skipped."""

    seconds: float
    marks: Sequence[Mark]
    missed: int
    phases: dict[tuple[int, float], float]

    def share(self, *, asap: bool) -> float:
        """Return the share of time taken by points with a period, or by those without one."""
        return sum(mark.seconds for mark in self.marks if (mark.every is None) == asap) / self.seconds


def timeline(bus: Bus) -> Timeline:
    """Run the schedule of a bus on virtual time, with the planned cost of each request."""
    drivers = _drivers(bus)
    periods = [point.every for device in bus.devices for point in polled(device) if point.every is not None]
    schedule = schedule_of(bus, drivers.__getitem__, 0.0)
    spread = {(slot.device, slot.every): slot.due % slot.every for slot in schedule.timed if slot.every and slot.due}
    end = min(max([*periods, SHORTEST]), LONGEST)
    marks: list[Mark] = []
    now, missed = 0.0, 0
    while now < end and len(marks) < MOST:
        job = schedule.take(now)
        if job is None:
            now = schedule.next_due(now)
            continue
        began = now
        for mark in _poll(bus, drivers[job.device], job, now, schedule):
            marks.append(mark)
            now += mark.seconds
        missed += job.missed
        schedule.charge(now - began)
    return Timeline(max(end, now) if len(marks) < MOST else now, marks, missed, spread)


def demand(bus: Bus) -> float:
    """Return the share of its time that a bus needs at most for points with a period; over 1 when it cannot keep up."""
    return sum(load.seconds / load.every for load in loads(bus, _drivers(bus).__getitem__))


def _drivers(bus: Bus) -> list[Driver]:
    return [create(device.driver, **device.options) for device in bus.devices]


def _poll(bus: Bus, driver: Driver, job: Job, now: float, schedule: Schedule) -> list[Mark]:
    """The requests of one job; a device that needs a rest between two gets the others later."""
    marks: list[Mark] = []
    rest = bus.devices[job.device].min_interval
    requests = planned(driver, job.points, bus.port)
    for request in requests[:1] if rest else requests:
        periods = [point.every for point in request.points if point.every is not None]
        marks.append(Mark(job.device, now, request.seconds, min(periods, default=None), len(request.points)))
        now += request.seconds
    if rest:
        schedule.hold(job.device, now + rest)
        left = tuple(point for request in requests[1:] for point in request.points)
        if left:
            schedule.defer(job.device, left, now + rest)
    return marks
