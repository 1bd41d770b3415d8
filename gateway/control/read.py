"""Operation `read`: the points of a device now, raw registers of any unit, what a unit says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from drivers import create
from drivers.base import BusError, NoReply, Point, Refused, Sample, Talk
from gateway.control import fields
from gateway.control.desk import Desk, unknown
from gateway.control.quality import explained, why
from gateway.control.timed import in_ms, timed
from gateway.errors import Declined
from gateway.field.poller import BAD_DEVICE, Poller, quality_of
from gateway.field.talks import Partner
from gateway.field.unit import Unit

T = TypeVar("T")

MOST = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
"""Table -> how many of it one request reads."""
COUNTERS = {
    11: "messages seen on the line",
    12: "messages with a wrong checksum",
    13: "exceptions answered",
    14: "messages to this unit",
    15: "messages not answered",
    16: "answers NAK",
    17: "answers busy",
    18: "overruns",
}
"""Sub-functions of diagnostics (function 8) that count."""


async def read(desk: Desk, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Read `device` [`points`]; or of `bus` and `unit`: `table`, `first`, `count`, or `identify`, or `counters`.

    A device: {"point", "value", "unit", "quality", "why"} each, then {"device", "took_ms"}. Raw: {"data": hex}.
    """
    if "device" in request:
        async for message in _device(desk, request):
            yield message
    else:
        yield await _foreign(desk, request)


async def _device(desk: Desk, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    poller, unit = desk.unit(fields.text(request, "device"))
    if not unit.device.polled:
        raise Declined(f"{unit.device.name} stands for all devices of {poller.bus.name}: nothing answers address 0")
    took: list[float] = []
    silent: NoReply | None = None
    for group in groups(unit, chosen(unit, fields.names(request, "points"))):
        if silent is not None:  # the rest of a silent device would cost a time-out for each group
            samples = [Sample(point.name, None, silent.quality) for point in group]
        else:
            samples, error = await ask_points(desk, poller, unit, group, took)
            silent = error if isinstance(error, NoReply) else None
        known = {point.name: point for point in group}
        for sample in samples:
            yield described(known[sample.point], sample)
    yield {"device": unit.device.name, "bus": poller.bus.name, "took_ms": in_ms(took), "exchanges": len(took)}


async def ask_points(
    desk: Desk, poller: Poller, unit: Unit, group: Sequence[Point], took: list[float]
) -> tuple[list[Sample], BusError | None]:
    """Ask for points that are one request; the samples are bad when that fails, and the error says why."""
    now = desk.clock.monotonic
    if took and unit.device.min_interval:
        await asyncio.sleep(unit.device.min_interval)
    try:
        samples = await poller.talks.ask(timed(unit.driver.poll(group, now()), now, took), unit.partner)
    except BusError as error:
        return [Sample(point.name, None, quality_of(error)) for point in group], error
    if unit.swapped:
        samples = [Sample(sample.point, None, BAD_DEVICE) for sample in samples]
    return samples, None


def described(point: Point, sample: Sample) -> dict[str, Any]:
    """Return a sample as a message."""
    return {
        "point": sample.point,
        "value": sample.value,
        "unit": point.unit,
        "quality": sample.quality,
        "why": why(sample.quality),
    }


def chosen(unit: Unit, names: Sequence[str]) -> list[Point]:
    """Return the points of these names; without names all but those that reading clears. Declined: unknown name."""
    points = {point.name: point for point in unit.device.points}
    for name in names:
        if name not in points:
            raise Declined(unknown("point", name, points))
    return [points[name] for name in names] or [point for point in unit.device.points if not point.read_clears]


def groups(unit: Unit, points: Sequence[Point]) -> Iterator[tuple[Point, ...]]:
    """Group as the driver does. What reading clears takes part in its plan, so that no request reaches across it."""
    spared = [point for point in unit.device.points if point.read_clears and point not in points]
    asked: set[str] = {point.name for point in spared}
    for group in unit.driver.plan([*points, *spared]):
        if group[0] not in spared:
            asked |= {point.name for point in group}
            yield group
    rest = tuple(point for point in points if point.name not in asked)
    if rest:  # the device has refused them before: the driver knows how to ask
        yield rest


# Any unit -------------------------------------------------------------------------------------------------------------


async def _foreign(desk: Desk, request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a unit that need not stand in the site file."""
    poller = desk.poller(fields.text(request, "bus"))
    on_line = poller.bus.framing != "tcp"
    number = fields.whole(request, "unit", *((1, 247) if on_line else (0, 255)))
    driver: Any = create("modbus", unit=number, framing=poller.bus.framing)
    partner = Partner(f"unit {number}", number, explain=driver.explain)
    took: list[float] = []

    async def ask(talk: Talk[T]) -> T:
        return await poller.talks.ask(timed(talk, desk.clock.monotonic, took), partner)

    try:
        if request.get("identify"):
            found = {"identity": await ask(driver.identify())}
        elif request.get("counters"):
            found = {"counters": await _counters(driver, ask)}
        else:
            found = await _raw(driver, ask, request)
    except BusError as error:
        raise explained(partner.name, error) from None
    return {"bus": poller.bus.name, "unit": number, **found, "took_ms": in_ms(took)}


async def _raw(driver: Any, ask: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    table = fields.text(request, "table")
    if table not in MOST:
        raise Declined(unknown("table", table, MOST))
    first = fields.whole(request, "first", 0, 65535)
    count = fields.whole(request, "count", 1, MOST[table])
    data: bytes = await ask(driver.read_raw(table, first, count))
    return {"table": table, "first": first, "count": count, "data": data.hex()}


async def _counters(driver: Any, ask: Any) -> dict[str, int | str]:
    """Ask for every counter that the device may have; {} when it has none."""
    found: dict[str, int | str] = {}
    try:
        for sub, name in COUNTERS.items():
            found[name] = int.from_bytes(await ask(driver.diagnostics(sub)), "big")
    except Refused:  # it does not count, or not so much
        pass
    for name, talk in (("events", driver.comm_event_counter), ("exception status", driver.exception_status)):
        try:
            number = await ask(talk())
        except Refused:
            continue
        found[name] = number[1] if isinstance(number, tuple) else f"{number:08b}"
    return found
