"""One read, prepared: what goes out, what comes back, and what each point is in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from drivers.base import Exchange, Point, Sample, sample
from drivers.modbus import pdu, values
from drivers.modbus.plan import Range, span
from drivers.modbus.register import BIT_TABLES, register_of
from drivers.modbus.reply import Reply, reply_to
from drivers.modbus.unit import Unit

Take = Callable[[bytes], list[Sample]]
"""Takes the samples of all points out of a reply PDU."""


@dataclass(slots=True)
class Ask:
    """One read request. `clears`: reading resets it; `known`: all its points are known to have answered."""

    points: tuple[Point, ...]
    range: Range
    request: bytes
    reply: Reply
    exchange: Exchange
    take: Take
    clears: bool = False
    known: bool = False


def ask_for(unit: Unit, points: tuple[Point, ...]) -> Ask:
    """The one request that reads these points."""
    whole = span(points)
    ask = ask_range(unit, whole)
    ask.points = points
    ask.take = _take(points, whole)
    ask.clears = any(point.read_clears for point in points)
    return ask


def ask_range(unit: Unit, whole: Range, *, hold: bool = False) -> Ask:
    """The request that reads a range, for no point in particular."""
    table, first, count = whole
    request = pdu.read(table, first, count)
    reply = reply_to(request)
    noun = "bit" if table in BIT_TABLES else "register"
    where = f"{first}..{first + count - 1}" if count > 1 else f"{first}"
    what = f"{table} {where} ({count} {noun}{'s' if count > 1 else ''})"
    return Ask((), whole, request, reply, unit.exchange(request, reply, what, hold=hold), _nothing)


def sampler(point: Point) -> Callable[[values.Raw | None], Sample]:
    """Raw -> sample. Text goes as it is; a bit stays a bit, also when it is inverted by scale -1 and offset 1."""
    kind = register_of(point).type
    if kind == "string":
        return lambda raw: Sample(point.name, raw) if isinstance(raw, str) else sample(point, None)
    if kind == "bit":
        off, on = (_bit_sample(point, raw) for raw in (False, True))
        return lambda raw: on if raw else off
    if _is_plain(point):  # nearly all registers of a PLC: worth not going through every rule each time
        name = point.name
        return lambda raw: Sample(name, raw) if raw is not None and isfinite(raw) else sample(point, raw)  # type: ignore[arg-type]
    return lambda raw: sample(point, raw)  # type: ignore[arg-type]  # only a string register yields text


def _take(points: tuple[Point, ...], whole: Range) -> Take:
    """Prepare the samples of points, all of them in the range that one request reads."""
    registers = [register_of(point) for point in points]
    block = None if whole[0] in BIT_TABLES else values.block(registers, whole[1])
    if block is None:
        takes = [_take_one(point, whole[1]) for point in points]
        return lambda reply: [take(reply) for take in takes]
    unpack = block[0].unpack_from
    if all(map(_is_whole, points)):
        names = [point.name for point in points]
        return lambda reply: list(map(Sample, names, unpack(reply, 2)))
    makes = [_make(point, tidy) for point, tidy in zip(points, block[1], strict=True)]
    return lambda reply: [make(raw) for make, raw in zip(makes, unpack(reply, 2), strict=True)]


def _take_one(point: Point, first: int) -> Callable[[bytes], Sample]:
    """Prepare a point's sample out of a reply PDU whose data begins at address `first`."""
    read = values.reader(register_of(point), first, skip=2)
    make = sampler(point)
    return lambda reply: make(read(reply))


def _make(point: Point, tidy: Callable[[float], values.Raw | None]) -> Callable[[float], Sample]:
    """Number as unpacked -> sample."""
    if _is_whole(point):
        name = point.name
        return lambda raw: Sample(name, raw)
    make = sampler(point)
    return lambda raw: make(tidy(raw))


def _nothing(_reply: bytes) -> list[Sample]:
    return []


def _is_whole(point: Point) -> bool:
    """Whether the value is a whole number as it is."""
    return _is_plain(point) and not register_of(point).type.startswith("f")


def _is_plain(point: Point) -> bool:
    """Whether the value is the raw number as it is."""
    limits = (point.decimals, point.low, point.high)
    return point.scale == 1.0 and not (point.offset or point.labels or point.sentinels) and limits == (None,) * 3


def _bit_sample(point: Point, raw: bool) -> Sample:
    made = sample(point, raw)
    return made._replace(value=bool(made.value)) if isinstance(made.value, float) else made
