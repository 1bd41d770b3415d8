"""Operation `watch`: the last value of every point, then what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

from drivers.base import Sample
from gateway.control import fields
from gateway.control.desk import Desk
from gateway.field.unit import Unit

NEWS_EVERY = 0.5
CHUNK = 32
"""Samples in a message: even if all are the longest texts, it stays below the longest line."""


async def watch(desk: Desk, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield {"device", "dead", "at", "values": [[point, value, unit, quality, age in s], ...]} of `devices` (or all).

    `at` is the wall time in ms at which the ages hold.
    First what there is, then every half second what has come since. Whoever reads slowly gets the newest only.
    """
    named = fields.names(request, "devices")
    units = [desk.unit(name)[1] for name in named] or [unit for poller in desk.pollers for unit in poller.units]
    seen: dict[tuple[str, str], float] = {}
    while True:
        now = desk.clock.monotonic()
        for unit in units:
            for message in _news(unit, seen, now):
                yield {**message, "at": round(desk.clock.wall() * 1000)}
        await asyncio.sleep(NEWS_EVERY)


def _news(unit: Unit, seen: dict[tuple[str, str], float], now: float) -> Iterator[dict[str, Any]]:
    device = unit.device
    fresh: list[tuple[float, Sample]] = []
    for first, (at, samples) in unit.latest.items():
        if seen.get((device.name, first)) != at:
            seen[device.name, first] = at
            fresh += [(at, sample) for sample in samples]
    units = {point.name: point.unit for point in device.points} if fresh else {}
    rows = [
        [sample.point, sample.value, units.get(sample.point, "1"), sample.quality, round(now - at, 3)]
        for at, sample in sorted(fresh, key=lambda one: one[0])
    ]
    for chunk in chunks(rows):
        yield {"device": device.name, "dead": unit.health.dead, "values": chunk}


def chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut rows into what fits one message each."""
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
