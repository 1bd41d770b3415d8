"""Operation `write`: set a point once, and see whether the device holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from math import isclose, isfinite
from typing import Any

from drivers.base import BusError, NoReply, Point, Refused, Sample, Value, Writes
from gateway.control import fields
from gateway.control.desk import Desk
from gateway.control.quality import explained
from gateway.control.read import ask_points, chosen, described
from gateway.control.timed import in_ms, timed
from gateway.errors import Declined, GatewayError, LinkError
from gateway.field.poller import Poller
from gateway.field.unit import Unit

SETTLE = 0.5
"""Seconds after which a device that does not show the new value yet is asked once more."""
SINGLE = 2e-7
"""Relative step of a 32-bit float: what a device may round away."""
_WORDS = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


async def write(desk: Desk, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Set `point` of `device` to `value` (text as a person types it, or a value); `dry`: check, and tell what is there.

    Yields {"device", "point", "unit", "before", "wanted"}, then {"after", "holds", "took_ms"}: null for a broadcast.
    Declined, before anything reaches the bus, when the point may not be written or not so.
    """
    poller, unit = desk.unit(fields.text(request, "device"))
    point = chosen(unit, [fields.text(request, "point")])[0]
    value = allowed(unit, point, request.get("value"))
    driver = unit.driver
    if not isinstance(driver, Writes):
        raise Declined(f"devices of the kind of {unit.device.name} ({unit.device.driver}) cannot be written")
    talk = driver.write(point, value)  # ValueError when it does not fit the register
    if unit.swapped:
        raise GatewayError(f"another device answers at the address of {unit.device.name}: nothing was written to it")
    everybody = not unit.device.polled
    took: list[float] = []
    before = None if everybody else await _held(desk, poller, unit, point, took)
    head = {"device": unit.device.name, "bus": poller.bus.name, "point": point.name, "unit": point.unit}
    yield {**head, "before": before and described(point, before), "wanted": value, "broadcast": everybody}
    if request.get("dry"):
        return
    confirmed = await _set(poller, unit, timed(talk, desk.clock.monotonic, took))
    if everybody:
        yield {"after": None, "holds": None, "took_ms": in_ms(took)}
        return
    try:
        after = await _held(desk, poller, unit, point, took)
        if not same(after.value, confirmed.value):
            await asyncio.sleep(SETTLE)
            after = await _held(desk, poller, unit, point, took)
    except GatewayError as error:
        raise GatewayError(f"{unit.device.name} confirmed the write, and could not be read after it: {error}") from None
    yield {"after": described(point, after), "holds": same(after.value, confirmed.value), "took_ms": in_ms(took)}


async def _held(desk: Desk, poller: Poller, unit: Unit, point: Point, took: list[float]) -> Sample:
    """Return what the device holds now. GatewayError when it does not answer."""
    samples, error = await ask_points(desk, poller, unit, (point,), took)
    if error is not None and not isinstance(error, Refused):
        raise explained(unit.device.name, error)
    return samples[0]


async def _set(poller: Poller, unit: Unit, talk: Any) -> Sample:
    """Write once. GatewayError when the device refuses, or does not confirm it."""
    name = unit.device.name
    await asyncio.sleep(unit.device.min_interval)
    try:
        samples = await poller.talks.ask(talk, unit.partner)
    except Refused as error:
        raise explained(name, error) from None
    except LinkError as error:
        raise GatewayError(f"{error}. Whether {name} has taken the value is not known: it was not sent again") from None
    except BusError as error:
        what = "did not answer the write" if isinstance(error, NoReply) else "answered the write with a mangled frame"
        raise GatewayError(
            f"{name} {what}: it may or may not have taken the value, and it was not sent again. "
            f"`gateway read {name}` tells what it holds"
        ) from None
    confirmed: Sample = samples[0]
    return confirmed


def same(held: Value, wanted: Value) -> bool:
    """Whether a device holds what was written, within what its registers can express."""
    if isinstance(held, int | float) and isinstance(wanted, int | float):
        return held == wanted or (isinstance(held, float) and isclose(held, wanted, rel_tol=SINGLE))
    return held == wanted


# What may be written --------------------------------------------------------------------------------------------------


def allowed(unit: Unit, point: Point, given: object) -> Value:
    """Return the value to write. Declined when the point is not writable, or not with this value."""
    name = f"{unit.device.name} {point.name}"
    if not point.writable:
        where = f"points.{point.name} = {{ writable = true }}" if unit.device.profile else "writable = true"
        raise Declined(
            f"{name} is not writable: profile and site file must both allow it. If the profile does, write `{where}` "
            f"into the site file and restart the agent"
        )
    value = value_of(unit, point, given)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not isfinite(value):
            raise Declined(f"{name}: {value} is not a number that can be written")
        if (point.low is not None and value < point.low) or (point.high is not None and value > point.high):
            raise Declined(f"{name}: {value:g} is outside {_range(point)}: nothing was written")
    return value


def value_of(unit: Unit, point: Point, given: object) -> Value:
    """Read a value, typed or from JSON: a label or its code, on or off, a text, a number. Declined when it is none."""
    if not isinstance(given, str | bool | int | float) or len(str(given)) > fields.LONGEST:
        raise Declined(f"the request needs 'value', a number or a text of at most {fields.LONGEST} characters")
    kinds = {one["name"]: one["type"] for one in unit.device.birth["points"]}
    typed = str(given).casefold()
    value: Value
    if point.labels:
        value, expected = _label(point, typed), f"one of {', '.join(point.labels.values())}"
    elif kinds[point.name] == "bool":
        value, expected = _WORDS.get(typed), "on or off"
    elif kinds[point.name] == "text":
        value, expected = given if isinstance(given, str) else None, "a text"
    else:
        value, expected = _number(given), "a number" + (f": write {typed.replace(',', '.')}" if "," in typed else "")
    if value is None:
        raise Declined(f"{unit.device.name} {point.name}: {given!r} is not {expected}")
    return value


def _label(point: Point, typed: str) -> str | None:
    return next((text for code, text in point.labels.items() if typed in (text.casefold(), str(code))), None)


def _number(given: str | float) -> float | None:
    if isinstance(given, bool):
        return None
    if not isinstance(given, str):
        return given
    try:
        return int(given)
    except ValueError:
        pass
    try:
        return float(given)
    except ValueError:
        return None


def _range(point: Point) -> str:
    low = "" if point.low is None else f"{point.low:g}"
    high = "" if point.high is None else f"{point.high:g}"
    return f"{low}..{high}" + ("" if point.unit == "1" else f" {point.unit}")
