"""One task per bus: takes what is due, holds the drivers' conversations, stamps and appends the readings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from drivers.base import BAD_CRC, BAD_DECODE, BAD_TIMEOUT, BusError, Identifies, NoReply, Point, Refused, Sample
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field import events
from gateway.field.diagnosis import TIMEOUT
from gateway.field.grid import schedule_of
from gateway.field.link import QUIET_GAP, Link
from gateway.field.schedule import Job
from gateway.field.talks import DriverFailed, Talks
from gateway.field.trouble import Trouble
from gateway.field.unit import IDENTITY_EVERY, Unit
from gateway.log import logger
from gateway.model import Bus, Readings

BACKOFF = (0.5, 4.0)
"""First and last pause before a lost port is tried again, in seconds; a fifth more at most."""
PROBE_SHARE = 0.03
"""Share of the bus that the probes of all its dead devices may take from the living ones."""
PATIENT_PROBE = 4
"""Every so many probes a dead device gets the full response time-out: it may be slower than it was."""
REOPEN_AFTER = 60.0
"""Seconds of silence of all devices after which the port is closed and opened again: an adapter may be stuck."""
SETTLED_AFTER = 5.0
"""A port that was lost is said to be back when a device answers, or nothing goes wrong for so many seconds."""
LOAD_OVER = 30.0
NOTHING_TO_ASK = 1.0
BAD_DEVICE = "bad:device"


class Sink(Protocol):
    """Where readings and events go: the store."""

    async def append(self, readings: Readings) -> None: ...

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None: ...


class Poller:
    """The owner of one bus. `counters` and `learned` are what an earlier run has left, by device."""

    def __init__(
        self,
        bus: Bus,
        link: Link,
        clock: Clock,
        sink: Sink,
        *,
        start: float,
        counters: Mapping[str, Any] | None = None,
        learned: Mapping[str, Any] | None = None,
    ) -> None:
        self.bus = bus
        self.talks = Talks(bus.name, link, clock, bus.timeout)
        self._link = link
        self._clock = clock
        self._now = clock.monotonic
        self._sink = sink
        left, known = counters or {}, learned or {}
        self.units = [
            Unit(device, bus.name, start, left.get(device.name, {}), known.get(device.name)) for device in bus.devices
        ]
        self._schedule = schedule_of(bus, lambda device: self.units[device].driver, start)
        self._trouble = Trouble(bus.name, self.units, link, start)
        self._is_up: bool | None = None
        self._fault = ""
        self._dead: dict[int, int] = {}
        """Dead devices, and how often each had answered when it died."""
        self._probe_at = start
        self._reopen_at = start + REOPEN_AFTER
        self._opened = start
        self._answers_before = 0
        self._load_marks = [(start, 0.0), (start, 0.0)]

    async def run(self, *, poll: bool = True) -> None:
        """Poll until cancelled, or only hold the conversations that others ask for. A missing port is waited for."""
        delay = BACKOFF[0]
        try:
            while True:
                try:
                    await self._link.open()
                    delay = BACKOFF[0]
                    self._port_is_open()
                    await (self._poll_what_is_due() if poll else self._serve())
                except LinkError as error:
                    self._link.close()
                    await self._port_is_down(str(error))
                    await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                    delay = min(delay * 2, BACKOFF[1])
        finally:
            self._link.close()
            self.talks.port_is(f"{self.bus.name} is not owned any more: the agent stops")

    def counters(self) -> dict[str, Any]:
        """Return the running totals, for the state that survives a restart."""
        return {unit.device.name: unit.report.state() for unit in self.units if unit.report.counters}

    def learned(self) -> dict[str, Any]:
        """Return what the devices have taught, for the state that survives a restart."""
        return {unit.device.name: known for unit in self.units if (known := unit.learned())}

    def stats(self) -> dict[str, Any]:
        """Return the counters of this bus for up/health; `load` is the share of time in use in the last minute or so.

        due = read + missed; read + derived = reported + suppressed, derived being the totals of counters.
        """
        total = {
            name: sum(getattr(unit, name) for unit in self.units) for name in ("due", "read", "reported", "missed")
        }
        return {
            "load": self._load(),
            "up": bool(self._is_up),
            "fault": self._fault,
            **total,
            "suppressed": sum(unit.report.suppressed for unit in self.units),
            "timeouts": sum(unit.record.counts[TIMEOUT] for unit in self.units),
            "bad_frames": sum(unit.record.broken for unit in self.units),
            "dead": [unit.device.name for unit in self.units if unit.health.dead],
            "trouble": self._trouble.summary(),
        }

    def _load(self) -> float:
        now = self._now()
        (since, busy), (lately, _) = self._load_marks
        if now - lately >= LOAD_OVER:
            self._load_marks = [self._load_marks[1], (now, self._link.busy)]
        return round((self._link.busy - busy) / max(now - since, 1e-3), 4)

    # Polling ----------------------------------------------------------------------------------------------------------

    async def _poll_what_is_due(self) -> None:
        schedule, talks = self._schedule, self.talks
        while True:
            now = self._now()
            job = schedule.take(now)
            if job is not None:
                await self._poll(job, now)
            else:
                await talks.rest(min(max(schedule.next_due(now) - now, 0.0), 3600.0 if self._is_up else SETTLED_AFTER))
            if self._dead:
                await self._see_who_has_answered_others()
            if not self._is_up:
                await self._see_whether_port_is_up(now)
            if now >= self._trouble.due:
                for told in self._trouble.look(now):
                    await self._event(told)

    async def _poll(self, job: Job, now: float) -> None:
        unit = self.units[job.device]
        if unit.device.quiet and (until := self._quiet_until(unit, now)) > now:
            self._schedule.skip(job.device, until)
            return
        unit.due += job.missed + len(job.points)
        unit.missed += job.missed
        before, asked = unit.read, unit.record.exchanges
        began = max(now, self._link.free_at)  # the gap that another has left is not this one's
        try:
            if unit.health.dead:
                await self._probe(job, unit, now)
            else:
                await self._read(job, unit)
        except LinkError:
            unit.missed += len(job.points) - (unit.read - before)
            raise
        if unit.record.exchanges == asked:  # all it was to be asked is known to be refused: "asap" would never pause
            self._schedule.hold(job.device, now + NOTHING_TO_ASK)
        self._schedule.charge(max(self._now(), self._link.free_at) - began)

    async def _serve(self) -> None:
        while True:
            await self.talks.rest(3600.0)

    def _quiet_until(self, unit: Unit, now: float) -> float:
        """When the device may be asked again; `now` when it may be asked."""
        second = self._clock.second_of_day()
        rests = (
            ((to - second) % 86400)
            for start, to in unit.device.quiet
            if (second - start) % 86400 < (to - start) % 86400
        )
        return now + max(rests, default=0.0)

    async def _read(self, job: Job, unit: Unit) -> None:
        groups = unit.driver.plan(job.points)
        if sum(map(len, groups)) != len(job.points):  # some are known to be refused: no request for them
            planned_ones = {point.name for group in groups for point in group}
            groups.append(tuple(point for point in job.points if point.name not in planned_ones))
        for index, group in enumerate(groups):
            if index and unit.device.min_interval:
                self._defer(job.device, groups[index:])
                return
            asked = unit.record.exchanges
            error = await self._read_group(unit, group)
            if error is None:
                if unit.record.exchanges > asked:  # what is known to be refused is answered from memory
                    unit.health.good(self.talks.at)
            elif isinstance(error, NoReply) or unit.health.failures:
                # The rest of a silent device is not asked: it would cost its neighbours a time-out for each group.
                await self._give_up(unit, groups[index + 1 :], error)
                await self._device_failed(job.device, error)
                return
            else:
                await self._device_failed(job.device, error)
        if unit.device.min_interval:
            self._schedule.hold(job.device, self._now() + unit.device.min_interval)
        if unit.identity_due <= self.talks.at:
            await self._identify(unit)

    def _defer(self, device: int, groups: Sequence[tuple[Point, ...]]) -> None:
        """The device needs a rest between two requests: the others have the bus meanwhile."""
        unit = self.units[device]
        points = tuple(point for group in groups for point in group)
        until = self._now() + unit.device.min_interval
        unit.due -= len(points)  # counted again when they are given out
        self._schedule.defer(device, points, until)
        self._schedule.hold(device, until)

    async def _read_group(
        self, unit: Unit, group: tuple[Point, ...], timeout: float | None = None, quiet_gap: float = QUIET_GAP
    ) -> BusError | None:
        """Read one group and tell its samples; return why it failed."""
        talks = self.talks
        try:
            samples = await talks.hold(unit.driver.poll(group, self._now()), unit.partner, timeout, quiet_gap)
        except BusError as error:
            await self._tell(unit, [Sample(point.name, None, quality_of(error)) for point in group], self._now())
            return error
        if unit.swapped:
            samples = [Sample(name, None, BAD_DEVICE) for name, _, _ in samples]
        await self._tell(unit, samples, talks.at)
        return None

    async def _give_up(self, unit: Unit, groups: Sequence[tuple[Point, ...]], error: BusError) -> None:
        rest = [Sample(point.name, None, quality_of(error)) for group in groups for point in group]
        if rest:
            await self._tell(unit, rest, self._now())

    async def _tell(self, unit: Unit, samples: list[Sample], at: float) -> None:
        unit.read += len(samples)
        unit.remember(samples, at)
        at_ms = round(at * 1000)
        told = unit.report.select(samples, at_ms)
        if told:
            unit.reported += len(told)
            await self._sink.append(Readings(unit.device.name, unit.device.cfg, at_ms, told))

    # Dead devices -----------------------------------------------------------------------------------------------------

    async def _probe(self, job: Job, unit: Unit, now: float) -> None:
        """Ask a dead device one cheap thing; when it answers, poll it as before."""
        alive = [other for other in self.units if not other.health.dead]
        if alive and now < self._probe_at:  # the dead have had their share of the bus
            unit.missed += len(job.points)
            self._schedule.hold(job.device, self._probe_at)
            return
        groups = unit.driver.plan(job.points) or [job.points]
        first, rest = groups[0][:1], [groups[0][1:], *groups[1:]]
        patient = not unit.health.probes % PATIENT_PROBE
        unit.health.probes += 1
        timeout = self.bus.timeout if patient else unit.record.probe_timeout(self._usual_timeout(alive))
        error = await self._read_group(unit, first, timeout, quiet_gap=0.0)
        if error is None:
            unit.health.good(self.talks.at)
            await self._device_is_back(unit)
            unit.due -= len(points := tuple(point for group in rest for point in group))
            if points:
                self._schedule.defer(job.device, points, self._now() + unit.device.min_interval)
            return
        await self._give_up(unit, rest, error)
        self._probe_at = self._now() + (self._now() - now) * (1 / PROBE_SHARE - 1)
        await self._device_failed(job.device, error)
        if not alive and self._now() >= self._reopen_at and quality_of(error) == BAD_TIMEOUT:
            await self._reopen()  # a gateway that says who is silent is not stuck itself

    def _usual_timeout(self, alive: Sequence[Unit]) -> float:
        """What the living devices of this bus would need, at most: for a dead one that has never answered."""
        known = [other.record.probe_timeout(self.bus.timeout) for other in alive if other.record.answers]
        return min(self.bus.timeout, 2 * max(known)) if known else self.bus.timeout

    async def _reopen(self) -> None:
        """Nothing answers: what is stuck in an adapter or a converter may be freed by opening the port anew."""
        self._reopen_at = self._now() + REOPEN_AFTER
        self._link.close()
        await self._link.open()

    async def _device_failed(self, index: int, error: BusError) -> None:
        now = self._now()
        unit = self.units[index]
        if unit.health.failed(now):
            logger.warning("device is dead", bus=self.bus.name, device=unit.device.name, error=str(error))
            await self._event(events.device_silent(self.bus.name, unit.device.name, error))
        if unit.health.dead:
            self._dead[index] = unit.record.answers
            self._schedule.hold(index, now + unit.health.delay * random.uniform(0.8, 1.2))

    async def _see_who_has_answered_others(self) -> None:
        """A technician has asked a dead device, and it has answered: poll it at once."""
        for index in [index for index, answers in self._dead.items() if self.units[index].record.answers > answers]:
            unit = self.units[index]
            if unit.health.good(self._now()):
                self._schedule.hold(index, 0.0)
                await self._device_is_back(unit)
            del self._dead[index]

    async def _device_is_back(self, unit: Unit) -> None:
        if unit.device.identify:
            unit.identity_due = self._now()
        self._reopen_at = self._now() + REOPEN_AFTER
        logger.info("device answers again", bus=self.bus.name, device=unit.device.name)
        await self._event(events.device_back(self.bus.name, unit.device.name))

    # Who answers ------------------------------------------------------------------------------------------------------

    async def _identify(self, unit: Unit) -> None:
        """Ask a device who it is: another one may stand at its address since the last time."""
        unit.identity_due = self._now() + IDENTITY_EVERY
        if not isinstance(unit.driver, Identifies):
            return
        try:
            found = await self.talks.hold(unit.driver.identify(), unit.partner)
        except BusError:
            return  # it has answered a moment ago: it will be asked again in an hour
        told = unit.identified(found)
        if told is not None:
            await self._event(told)

    # The port ---------------------------------------------------------------------------------------------------------

    def _port_is_open(self) -> None:
        self._opened, self._answers_before = self._now(), self.talks.answers
        if self._is_up is None:
            logger.info("port is open", bus=self.bus.name)
            self._is_up = True
        self._fault = ""
        self.talks.port_is(None)

    async def _see_whether_port_is_up(self, now: float) -> None:
        """A port that opens and fails again and again (a babbling line) is not back."""
        if self.talks.answers > self._answers_before or now - self._opened >= SETTLED_AFTER:
            self._is_up = True
            logger.info("port is usable again", bus=self.bus.name)
            await self._event(events.port_back(self.bus.name))

    async def _port_is_down(self, text: str) -> None:
        self._fault = text
        self.talks.port_is(text)
        if self._is_up is False:
            return
        self._is_up = False
        logger.warning("port is not usable, waiting for it", bus=self.bus.name, error=text)
        await self._event(events.port_lost(self.bus.name, text))
        now = self._now()
        for unit in (unit for unit in self.units if unit.device.polled):
            unit.due += len(unit.device.points)
            await self._tell(unit, [Sample(point.name, None, BAD_TIMEOUT) for point in unit.device.points], now)

    async def _event(self, told: events.Event) -> None:
        await self._sink.append_message("e", told)


def quality_of(error: BusError) -> str:
    """The quality of points whose reading failed so."""
    if isinstance(error, NoReply):
        return error.quality
    if isinstance(error, Refused):
        return f"bad:exception-{error.code}"
    return BAD_DECODE if isinstance(error, DriverFailed) else BAD_CRC
