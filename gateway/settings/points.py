"""Points: what is wrong with written ones, and the finished point made of a table."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from drivers.base import Point
from gateway.errors import Problem
from gateway.settings.document import Document
from gateway.settings.lines import Place
from gateway.settings.quantities import ASAP
from gateway.settings.tables import OverrideTable, PointTable

if TYPE_CHECKING:
    from drivers.modbus.register import Register

BITS = {"u8hi": 8, "u8lo": 8, "u16": 16, "s16": 16, "u32": 32, "s32": 32, "u64": 64, "s64": 64}
"""Whole numbers, and how many bits they have."""
WHOLE = {*BITS, "bits", "bcd"}
"""Types whose raw value is a whole number; the others are bit, floats and text."""
CLEARED_ASAP = (
    'is "asap" for a value that reading clears: little would be left of it',
    'write a period, e.g. every = "1m": each value is what came since the reading before',
)
"""Text and advice."""
_DERIVED = (".total", ".gen")
_MOST_DECIMALS = 15


def register_of(point: PointTable) -> Register:
    """Return the driver's address of a point. ValueError when type, table, order and bit do not go together."""
    from drivers.modbus.register import Register

    return Register(point.table, point.at, type_of(point), point.order, point.bit, point.length)


def type_of(point: PointTable) -> str:
    """Return the type of the value, also where the file leaves it to the table."""
    if point.type is not None:
        return point.type
    if point.table in {"coil", "discrete"} or isinstance(point.bit, int):
        return "bit"
    return "u16" if point.bit is None else "bits"


def decimals_of(point: PointTable) -> int | None:
    """Return to how many decimals the value is rounded: as written, or as scale and offset have.

    None for plain whole numbers, which need no rounding, and for all that is no whole number on the wire.
    """
    if point.decimals is not None:
        return point.decimals
    if type_of(point) not in WHOLE or (point.scale == 1 and point.offset == 0):
        return None
    most = max(_decimals(point.scale), _decimals(point.offset))
    return most if most <= _MOST_DECIMALS else None


def _decimals(number: float) -> int:
    exponent = Decimal(repr(number)).normalize().as_tuple().exponent
    return max(0, -int(exponent))


def wraps_at(point: PointTable) -> float | None:
    """Return the value at which a counter starts again from zero: as written, or as its unsigned type ends."""
    if point.wraps_at is not None or point.kind != "counter":
        return point.wraps_at
    if point.scale < 0:
        return None
    kind = type_of(point)
    if kind.startswith("u"):
        return 2.0 ** BITS[kind] * point.scale
    if kind == "bcd":
        return 10.0 ** (4 * (point.length or 1)) * point.scale
    return None


def merged(point: PointTable, override: OverrideTable | None) -> PointTable:
    """Return the point as this site wants it. Writing needs the permission of both."""
    if override is None:
        return point.model_copy(update={"writable": False})
    changes = override.model_dump(exclude_none=True, exclude={"enabled"})
    return point.model_copy(update={**changes, "writable": point.writable and override.writable is True})


def finished(point: PointTable, every: float) -> Point:
    """Return what the driver and the poller work with. `every` in seconds, of the device."""
    period = every if point.every is None else point.every
    return Point(
        name=point.name,
        where=register_of(point),
        unit=point.unit,
        kind=point.kind,
        every=None if period == ASAP else period,
        scale=point.scale,
        offset=point.offset,
        decimals=decimals_of(point),
        labels=point.labels,
        sentinels=frozenset(point.sentinels),
        low=point.low,
        high=point.high,
        deadband=point.deadband,
        wraps_at=wraps_at(point),
        writable=point.writable,
        read_clears=point.read_clears,
    )


def point_problems(document: Document, place: Place, value: object) -> Iterator[Problem]:
    """Yield what is wrong in and among the points of one device or profile, beyond the form of each value."""
    if not isinstance(value, list):
        return
    seen: dict[str, int] = {}
    for index, raw in document.tables(place):
        here = (*place, index)
        name = raw.get("name")
        if isinstance(name, str):
            if name in seen:
                first = document.line((*place, seen[name], "name"))
                yield document.problem(
                    (*here, "name"), f'a second point is called "{name}" (the first: line {first})', "rename one"
                )
            seen.setdefault(name, index)
        yield from _one_point(document, here, raw)
    for name, index in seen.items():
        yield from _clash(document, (*place, index, "name"), name, seen, value)


def _clash(document: Document, place: Place, name: str, seen: dict[str, int], value: list[Any]) -> Iterator[Problem]:
    for suffix in _DERIVED:
        counter = name.removesuffix(suffix)
        if counter != name and counter in seen and value[seen[counter]].get("kind") == "counter":
            yield document.problem(
                place, f'"{name}" is taken: the counter "{counter}" makes a point of this name', "rename it"
            )


def _one_point(document: Document, place: Place, raw: dict[str, Any]) -> Iterator[Problem]:
    yield from range_problem(document, place, raw.get("low"), raw.get("high"))
    try:
        point = PointTable.model_validate(raw)
    except ValidationError:
        return  # explained elsewhere, value by value
    try:
        register_of(point)
    except ValueError as error:
        yield document.problem(place, str(error))
    if point.labels and type_of(point) not in {*WHOLE, "bit"}:
        yield document.problem((*place, "labels"), "needs a whole number, and this type is none", "remove labels")
    if point.kind == "counter" and (point.labels or type_of(point) in {"bit", "bits", "string"}):
        yield document.problem((*place, "kind"), "a counter must be a number", 'write kind = "state"')
    if point.read_clears:
        yield from _cleared(document, place, point)
    if point.wraps_at is not None and point.kind != "counter":
        yield document.problem((*place, "wraps_at"), "only a counter wraps", 'write kind = "counter", or remove it')


def _cleared(document: Document, place: Place, point: PointTable) -> Iterator[Problem]:
    if point.every == ASAP:
        yield document.problem((*place, "every"), *CLEARED_ASAP)
    if point.writable:
        yield document.problem(
            (*place, "writable"), "a value that reading clears cannot be written", "remove writable, or read_clears"
        )


def range_problem(document: Document, place: Place, low: object, high: object) -> Iterator[Problem]:
    """Yield when low is above high; other types are explained elsewhere."""
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        key = "low" if (*place, "low") in document.lines else "high"
        yield document.problem((*place, key), f"low ({low:g}) is above high ({high:g})", "swap the two")
