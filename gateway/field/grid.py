"""The schedule of a bus, made from its devices: who is due when, and what may come along. Pure."""

from __future__ import annotations

from collections.abc import Callable

from drivers.base import Driver, Point
from gateway.field.cost import planned
from gateway.field.schedule import Load, Schedule, phases
from gateway.model import Bus, Device, SerialPort

DriverOf = Callable[[int], Driver]
"""Number of a device on its bus -> its driver, which may be another one later: firmware changes."""


def schedule_of(bus: Bus, driver_of: DriverOf, start: float) -> Schedule:
    """Return the schedule; a serial bus that is more than half full at a grid step is spread (design 7.1)."""

    def joins(device: int, due: tuple[Point, ...], nearly: tuple[Point, ...]) -> bool:
        driver = driver_of(device)
        return len(driver.plan(due + nearly)) <= len(driver.plan(due))

    spread = phases(loads(bus, driver_of)) if isinstance(bus.port, SerialPort) else {}
    return Schedule.of([polled(device) for device in bus.devices], start, spread, joins)


def loads(bus: Bus, driver_of: DriverOf) -> list[Load]:
    """Return what each device's points of one period cost."""
    found = []
    for index, device in enumerate(bus.devices):
        points = polled(device)
        for every in {point.every for point in points if point.every is not None}:
            requests = planned(driver_of(index), [point for point in points if point.every == every], bus.port)
            found.append(Load(index, every, sum(request.seconds for request in requests)))
    return found


def polled(device: Device) -> tuple[Point, ...]:
    """Return the points that are read."""
    return device.points if device.polled else ()
