"""What is wrong on a bus, watched while it runs: causes are raised as events, and cleared when they are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.field.diagnosis import KINDS, LEAST_TROUBLE, Cause, Seen, causes
from gateway.field.link import Link
from gateway.field.unit import Unit
from gateway.model import event

FIRST_LOOK, LOOK_EVERY = 10.0, 30.0
"""Seconds. Each look concludes from what happened since the look before the last one."""

MOST_TOLD = 16
"""Devices whose records go into up/health: a message has to fit any broker."""
WELL = {"exchanges", "answers", "p50_ms", "p99_ms", "histogram"}
"""What the summary of a device without any trouble holds."""

Snapshot = tuple[int, int, Counter[str]]
"""Exchanges, answers and trouble of one device so far."""


class Trouble:
    """The causes that hold now on one bus."""

    def __init__(self, bus: str, units: Sequence[Unit], link: Link, start: float) -> None:
        self.due = start + FIRST_LOOK
        self._bus = bus
        self._units = units
        self._link = link
        nothing: list[Snapshot] = [(0, 0, Counter()) for _ in units]
        self._before, self._lately = nothing, nothing
        self._errors_before: dict[str, int] = {}
        self._causes: dict[tuple[str, str], Cause] = {}

    def look(self, now: float) -> list[dict[str, Any]]:
        """Conclude from what happened since the last look; return the events to tell."""
        self.due = now + LOOK_EVERY
        seen = self._since()
        errors = self._link.errors()
        risen = {kind: max(0, count - self._errors_before.get(kind, count)) for kind, count in errors.items()}
        self._errors_before = errors
        found = {(cause.code, cause.device): cause for cause in causes(self._bus, seen, risen)}
        told = [
            event(cause.code, cause.text, bus=self._bus, device=cause.device, cause=cause.cause, advice=cause.advice)
            for key, cause in found.items()
            if key not in self._causes
        ]
        gone = [key for key in self._causes if key not in found and self._is_well(key[1], seen)]
        for key in gone:
            cause = self._causes.pop(key)
            told.append(event(cause.code, f"no longer: {cause.text}", raised=False, bus=self._bus, device=cause.device))
        self._causes |= found
        return told

    def summary(self) -> dict[str, Any]:
        """Return the causes that hold, and the records of the devices with most trouble, for up/health."""
        told = {unit.device.name: unit.summary() for unit in self._units}
        ill = [name for name in told if set(told[name]) - WELL]
        worst = sorted(ill, key=lambda name: -sum(told[name].get(kind, 0) for kind in KINDS))[:MOST_TOLD]
        return {
            "causes": [cause._asdict() for cause in self._causes.values()],
            "devices": {name: told[name] for name in worst},
        }

    def _since(self) -> list[Seen]:
        now: list[Snapshot] = [
            (unit.record.exchanges, unit.record.answers, Counter(unit.record.counts)) for unit in self._units
        ]
        seen = [
            Seen(unit.device.name, exchanges - before[0], answers - before[1], counts - before[2])
            for unit, (exchanges, answers, counts), before in zip(self._units, now, self._before, strict=True)
        ]
        self._before, self._lately = self._lately, now
        return seen

    def _is_well(self, device: str, seen: Sequence[Seen]) -> bool:
        """Whether enough was answered to say that a trouble is gone; `device` empty means the line."""
        return sum(one.answers for one in seen if device in ("", one.device)) >= LEAST_TROUBLE
