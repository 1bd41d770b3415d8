"""A device with what this run knows of it, and what it remembers of earlier runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from drivers import create
from drivers.base import Counts, Driver, Explains, Learns, Sample
from gateway.field import events
from gateway.field.health import Health
from gateway.field.report import Report
from gateway.field.talks import Partner
from gateway.model import Device

IDENTITY_EVERY = 3600.0
"""Seconds between two questions who a device is."""


class Unit:
    """One device of a bus. `learned` is what an earlier run has left."""

    def __init__(
        self,
        device: Device,
        bus: str,
        now: float,
        counters: Mapping[str, Sequence[Any]],
        learned: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = device
        self._bus = bus
        self._key = fingerprint(device)
        known = learned if learned and learned.get("key") == self._key else {}
        holes = {"holes": known["holes"]} if known.get("holes") else {}
        self.partner = Partner(device.name, device.address)
        self.driver: Driver
        self._take_driver(create(device.driver, **device.options, **holes))
        self.record = self.partner.record
        self.health = Health(last_good=now)
        self.report = Report.of(device.points, counters)
        self.latest: dict[str, tuple[float, Sequence[Sample]]] = {}
        """The last samples of each group of points, by its first point, and when they came."""
        self.due = self.read = self.reported = self.missed = 0
        self.identity: dict[str, str] = dict(known.get("identity", {}))
        self.identity_due = now if device.identify else float("inf")
        self.swapped = False
        """Another device answers at this address: its values are not those of the points."""

    def learned(self) -> dict[str, Any]:
        """Return what the next run should know; {} when there is nothing."""
        known: dict[str, Any] = {}
        if isinstance(self.driver, Learns) and self.driver.holes:
            known["holes"] = self.driver.holes
        if self.identity:
            known["identity"] = self.identity
        return {"key": self._key, **known} if known else {}

    def identified(self, found: dict[str, str]) -> events.Event | None:
        """The device has said who it is; return what that tells. After a change of firmware it is learned anew."""
        bus, name, known = self._bus, self.device.name, self.identity
        if not found:
            return None
        if not known or found == known:
            was_swapped, self.swapped, self.identity = self.swapped, False, found
            return events.device_itself(bus, name) if was_swapped else None
        if all(found.get(key) == known.get(key) for key in ("vendor", "product")):
            self._take_driver(create(self.device.driver, **self.device.options))
            self.identity = found
            return events.device_firmware(bus, name, known, found)
        was_swapped, self.swapped = self.swapped, True
        return None if was_swapped else events.device_swapped(bus, name, known, found)

    def _take_driver(self, driver: Driver) -> None:
        self.driver = driver
        if self.device.polled:
            driver.plan(self.device.points)  # what reading clears is known from the start, and never read along
        self.partner.explain = driver.explain if isinstance(driver, Explains) else None

    def summary(self) -> dict[str, Any]:
        """Return the record of its exchanges, with the exceptions by code, for people and up/health."""
        refused = self.driver.exceptions if isinstance(self.driver, Counts) else {}
        exceptions = {"exceptions": {str(code): times for code, times in sorted(refused.items())}} if refused else {}
        return {**self.record.summary(), **exceptions}

    def remember(self, samples: Sequence[Sample], at: float) -> None:
        """Keep the samples for whoever wants to see the last values."""
        self.latest[samples[0].point] = (at, samples)

    def values(self) -> dict[str, tuple[float, Sample]]:
        """Return the last sample of every point, and when it came (monotonic seconds)."""
        found: dict[str, tuple[float, Sample]] = {}
        for at, samples in sorted(self.latest.values(), key=lambda entry: entry[0]):
            found.update({sample.point: (at, sample) for sample in samples})
        return found


def fingerprint(device: Device) -> str:
    """Name what a device is: what was learned of it holds as long as this stays."""
    facts = [device.driver, device.address, device.profile_sha256, device.cfg, sorted(device.options.items())]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]
