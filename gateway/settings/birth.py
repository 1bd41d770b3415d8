"""The birth of a device: what explains its points to the IOC, and the short hash that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from drivers.base import Point
from gateway.settings.points import WHOLE

if TYPE_CHECKING:
    from drivers.modbus.register import Register


def points(finished: Iterable[Point]) -> list[dict[str, Any]]:
    """Describe every point; a counter is three: raw, total and generation."""
    described = []
    for point in finished:
        one = _point(point)
        described.append(one)
        if point.kind == "counter":
            more: dict[str, Any] = {"deadband": None, "range": [None, None], "labels": {}, "writable": False}
            described.append({**one, **more, "name": f"{point.name}.total"})
            generation = {"name": f"{point.name}.gen", "unit": "1", "kind": "state", "type": "int", "resolution": 1}
            described.append({**one, **more, **generation})
    return described


def cfg(described: list[dict[str, Any]]) -> str:
    """Return 8 hex digits that change whenever the points do. Devices with the same points share them."""
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _point(point: Point) -> dict[str, Any]:
    return {
        "name": point.name,
        "unit": point.unit,
        "kind": point.kind,
        "type": _type(point),
        "resolution": _resolution(point),
        "labels": {str(code): text for code, text in sorted(point.labels.items())},
        "every": "asap" if point.every is None else _number(point.every),
        "deadband": _number(point.deadband),
        "range": [_number(point.low), _number(point.high)],
        "writable": point.writable,
    }


def _type(point: Point) -> str:
    """What the reader gets: text for a labelled code (an unknown code stays a number and is uncertain)."""
    kind = cast("Register", point.where).type
    if point.labels or kind == "string":
        return "text"
    if kind == "bit":
        return "bool"
    return "int" if kind in WHOLE and point.scale == 1 and point.offset == 0 else "float"


def _resolution(point: Point) -> int | float | None:
    """The step of the value: 10**-decimals where that is coarser than the scale; None when it has none."""
    if _type(point) not in {"int", "float"}:
        return None
    step = abs(point.scale) if cast("Register", point.where).type in WHOLE else None
    if point.decimals is not None:
        rounded = float(f"1e-{point.decimals}")
        step = rounded if step is None else max(step, rounded)
    return _number(step)


def _number(value: float | None) -> int | float | None:
    """Write a whole number without a point, so that 10 and 10.0 are one birth."""
    return int(value) if value is not None and value == int(value) else value
