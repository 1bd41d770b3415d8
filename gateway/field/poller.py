"""One task per bus: takes what is due, holds the drivers' conversations, stamps and appends the readings."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from drivers import create
from drivers.base import (
    BAD_CRC,
    BAD_DECODE,
    BAD_TIMEOUT,
    BadFrame,
    BusError,
    Driver,
    Exchange,
    NoReply,
    Pause,
    Point,
    Sample,
    Step,
)
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field.health import Health
from gateway.field.link import BACKOFF, Link, Reply
from gateway.field.report import Report
from gateway.field.schedule import Job, Schedule
from gateway.log import logger
from gateway.model import Bus, Device, Readings, event


class Sink(Protocol):
    """Where readings and events go: the store."""

    async def append(self, readings: Readings) -> None: ...

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None: ...


class Unit:
    """A device with what this run knows of it."""

    def __init__(self, device: Device, now: float, counters: Mapping[str, Sequence[Any]]) -> None:
        self.device = device
        self.driver: Driver = create(device.driver, **device.options)
        self.health = Health(last_good=now)
        self.report = Report.of(device.points, counters)
        self.due = self.read = self.reported = self.missed = self.timeouts = self.bad_frames = 0


class Poller:
    """The owner of one bus."""

    def __init__(
        self, bus: Bus, link: Link, clock: Clock, sink: Sink, *, start: float, counters: Mapping[str, Any] | None = None
    ) -> None:
        self.bus = bus
        self._link = link
        self._clock = clock
        self._now = clock.monotonic
        self._sink = sink
        left = counters or {}
        self.units = [Unit(device, start, left.get(device.name, {})) for device in bus.devices]
        self._schedule = Schedule.of([device.points for device in bus.devices], start)
        self._strict = bool(os.environ.get("GATEWAY_STRICT"))
        self._is_up: bool | None = None
        self._fault = ""
        self._load_since = (start, 0.0)

    async def run(self) -> None:
        """Poll until cancelled. A port that is missing is waited for."""
        delay = BACKOFF[0]
        try:
            while True:
                try:
                    await self._link.open()
                    delay = BACKOFF[0]
                    await self._port_is_up()
                    await self._poll_what_is_due()
                except LinkError as error:
                    self._link.close()
                    await self._port_is_down(str(error))
                    await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                    delay = min(delay * 2, BACKOFF[1])
        finally:
            self._link.close()

    def counters(self) -> dict[str, Any]:
        """Return the running totals, for the state that survives a restart."""
        return {unit.device.name: unit.report.state() for unit in self.units if unit.report.counters}

    def stats(self) -> dict[str, Any]:
        """Return the counters of this bus for up/health; `load` is the share of time in use since the last call.

        due = read + missed; read + derived = reported + suppressed, derived being the totals of counters.
        """
        total = {
            name: sum(getattr(unit, name) for unit in self.units)
            for name in ("due", "read", "reported", "missed", "timeouts", "bad_frames")
        }
        (since, busy), now = self._load_since, self._now()
        self._load_since = (now, self._link.busy)
        return {
            "load": round((self._link.busy - busy) / max(now - since, 1e-3), 4),
            "up": bool(self._is_up),
            "fault": self._fault,
            **total,
            "suppressed": sum(unit.report.suppressed for unit in self.units),
            "dead": [unit.device.name for unit in self.units if unit.health.dead],
        }

    async def _poll_what_is_due(self) -> None:
        schedule = self._schedule
        while True:
            now = self._now()
            job = schedule.take(now)
            if job is not None:
                await self._poll(job, now)
            else:
                await asyncio.sleep(min(max(schedule.next_due(now) - now, 0.0), 3600.0))

    async def _poll(self, job: Job, now: float) -> None:
        unit = self.units[job.device]
        unit.due += job.missed + len(job.points)
        unit.missed += job.missed
        before = unit.read
        try:
            await self._read(job, unit)
        except LinkError:
            unit.missed += len(job.points) - (unit.read - before)
            raise
        self._schedule.charge(self._now() - now)

    async def _read(self, job: Job, unit: Unit) -> None:
        groups = unit.driver.plan(job.points)
        for index, group in enumerate(groups):
            samples, at, error = await self._converse(unit, group)
            await self._tell(unit, samples, at)
            if error is None:
                if unit.health.good(at):
                    await self._device_is_back(unit)
            elif isinstance(error, NoReply):
                # The rest of a silent device is not asked: it would cost its neighbours a time-out for each group.
                rest = [Sample(point.name, None, BAD_TIMEOUT) for other in groups[index + 1 :] for point in other]
                if rest:
                    await self._tell(unit, rest, at)
                await self._device_failed(job.device, error)
                break

    async def _tell(self, unit: Unit, samples: list[Sample], at: float) -> None:
        unit.read += len(samples)
        at_ms = round(at * 1000)
        told = unit.report.select(samples, at_ms)
        if told:
            unit.reported += len(told)
            await self._sink.append(Readings(unit.device.name, unit.device.cfg, at_ms, told))

    async def _converse(self, unit: Unit, group: tuple[Point, ...]) -> tuple[list[Sample], float, BusError | None]:
        """Hold one conversation; return its samples, the time of the last reply, and why it failed."""
        at = self._now()
        frame = b""
        try:
            talk = unit.driver.poll(group, at)
            step = next(talk)
            while True:
                try:
                    frame, at = await self._take_step(step)
                except (NoReply, BadFrame) as error:
                    unit.timeouts += isinstance(error, NoReply)
                    unit.bad_frames += isinstance(error, BadFrame)
                    at = self._now()
                    step = talk.throw(error)
                else:
                    step = talk.send(frame)
        except StopIteration as end:
            return end.value, at, None
        except NoReply as error:
            return [Sample(point.name, None, BAD_TIMEOUT) for point in group], at, error
        except BadFrame as error:
            return [Sample(point.name, None, BAD_CRC) for point in group], at, error
        except (LinkError, asyncio.CancelledError):
            raise
        except Exception:  # design: a driver's bug costs its device, not the other buses
            if self._strict:
                raise
            logger.exception("a driver failed", device=unit.device.name, frame=frame.hex(" "))
            return [Sample(point.name, None, BAD_DECODE) for point in group], at, BadFrame("the driver failed")

    async def _take_step(self, step: Step) -> Reply:
        if isinstance(step, Exchange):
            return await self._link.exchange(step, self.bus.timeout)
        if isinstance(step, Pause):
            await self._link.pause(step.seconds)
            return Reply(b"", self._now())
        raise LinkError(f"{self.bus.name} cannot change its line settings to {step.baud} {step.format}")

    async def _device_failed(self, index: int, error: BusError) -> None:
        now = self._now()
        unit = self.units[index]
        name = unit.device.name
        if unit.health.failed(now):
            logger.warning("device is silent", bus=self.bus.name, device=name, error=str(error))
            await self._event(
                "device-silent",
                f"{name} on {self.bus.name} does not answer",
                device=name,
                cause="no power, wrong address, a broken wire, or another baud rate",
                advice="check the power of the device and its address; the others on the bus go on",
            )
        if unit.health.dead:
            self._schedule.hold(index, now + unit.health.delay * random.uniform(0.8, 1.2))

    async def _device_is_back(self, unit: Unit) -> None:
        name = unit.device.name
        logger.info("device answers again", bus=self.bus.name, device=name)
        await self._event("device-silent", f"{name} on {self.bus.name} answers again", raised=False, device=name)

    async def _port_is_up(self) -> None:
        if self._is_up is False:
            logger.info("port is usable again", bus=self.bus.name)
            await self._event("port-lost", f"the port of {self.bus.name} is usable again", raised=False)
        elif self._is_up is None:
            logger.info("port is open", bus=self.bus.name)
        self._is_up, self._fault = True, ""

    async def _port_is_down(self, text: str) -> None:
        self._fault = text
        if self._is_up is False:
            return
        self._is_up = False
        logger.warning("port is not usable, waiting for it", bus=self.bus.name, error=text)
        await self._event(
            "port-lost",
            f"the port of {self.bus.name} is not usable: {text}",
            cause="the adapter is unplugged, or its cable or endpoint has failed",
            advice="the bus goes on by itself as soon as the port is back",
        )
        now = self._now()
        for unit in self.units:
            unit.due += len(unit.device.points)
            await self._tell(unit, [Sample(point.name, None, BAD_TIMEOUT) for point in unit.device.points], now)

    async def _event(self, code: str, text: str, **more: Any) -> None:
        await self._sink.append_message("e", event(code, text, bus=self.bus.name, **more))
