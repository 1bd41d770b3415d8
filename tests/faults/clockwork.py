"""The uplink of one gateway without its field, with a clock whose hands the test turns; broker and IOC are real."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices import Answer, mark, now
from ioc import Ioc
from ledger import Ledger, Told
from processes import Mosquitto

from drivers.base import Sample
from gateway.clock import Clock
from gateway.model import Bus, Device, Readings, SerialPort, Site, StoreSettings, Uplink
from gateway.store import Store
from gateway.uplink.publisher import Publisher
from gateway.uplink.pump import Pace

CFG = "a1b2c3d4"
PACE = Pace(tick=0.05, speak=0.05, retry_first=0.05, retry_last=0.2)
DEVICE = Device("device-1", "modbus", 1, (), birth={"points": [{"name": "count"}]}, cfg=CFG)


@dataclass
class Hands:
    """What is wrong with the wall clock, in seconds, and whether the kernel calls it synchronised."""

    error: float = 0.0
    synchronised: bool = True
    elapsed: float = 0.0
    """Seconds by which time has been moved on."""
    drift: float = 0.0
    """Of the wall clock, per second of `elapsed`."""


@dataclass
class Clockwork:
    """One gateway: `boot` starts the machine, `end` shuts it down. The oracle is the ledger and the right time."""

    folder: Path
    broker: Mosquitto
    ledger: Ledger
    ioc: Ioc
    hands: Hands = field(default_factory=Hands)
    answers: list[Answer] = field(default_factory=list)
    boots: int = 0
    clock: Clock = field(init=False)
    store: Store = field(init=False)
    publisher: Publisher = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def boot(self) -> None:
        """Start the machine: its monotonic time begins anew."""
        self.boots += 1
        hands, began = self.hands, time.monotonic() - 5.0
        hands.elapsed = 0.0
        right = self.ledger.anchor / 1000
        self.clock = Clock(
            "kernel",
            boot=f"{self.boots:012x}",
            monotonic=lambda: time.monotonic() - began + hands.elapsed,
            wall=lambda: time.monotonic() + right + hands.elapsed * (1 + hands.drift) + hands.error,
            synchronised=lambda: hands.synchronised,
        )
        settings = StoreSettings(str(self.folder / "store"), commit_every=0.1, linger=0.1)
        bus = Bus("field", SerialPort("/dev/null"), "rtu", (DEVICE,))
        site = Site("gw-1", "quarter", "kernel", Uplink((self.broker.url,)), settings, (bus,), sha256="00" * 32)
        self.store = Store(settings, self.clock)
        self.publisher = Publisher(site, self.store, self.clock, dict, pace=PACE)
        await self.store.open()
        self._tasks = [asyncio.create_task(self.store.run()), asyncio.create_task(self.publisher.run())]

    async def end(self) -> None:
        """Shut down in order."""
        if self._tasks:
            await self.publisher.stop(2.0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
            await self.store.close()

    async def read(self, times: int = 1) -> None:
        """Replies of a device, each a batch of its own."""
        for _ in range(times):
            count, ms = len(self.answers) + 1, now() + self.hands.elapsed * 1000
            self.answers.append(Answer(1, count, ms, taken=True))
            numbers = (count, int(ms) & 0xFFFFFFFF, mark(1, count))
            samples = [Sample(name, value) for name, value in zip(("count", "ms", "mark"), numbers, strict=True)]
            await self.store.append(Readings("device-1", CFG, self.clock.mono_ms(), samples))
            self.store.flush()

    async def set_clock(self, error: float, *, synchronised: bool = True) -> None:
        """Somebody sets the clock; the agent looks, as it does every few seconds."""
        self.hands.error, self.hands.synchronised = error, synchronised
        self.clock.look()

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 30.0) -> float:
        """Wait until it holds; how long that took."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{what}: not within {seconds} s; {self.publisher.trouble}")
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def delivered(self) -> float:
        """Wait until everything has arrived; how long that took."""
        return await self.until(lambda: not self.ledger.missing(self.answers), "everything to arrive")

    def lost(self) -> list[str]:
        """Readings and batches that are missing."""
        return [f"reading {a.count}" for a in self.ledger.missing(self.answers)] + self.ledger.gaps([], 0.0)

    def error_of(self, told: Told) -> float:
        """Seconds by which the time of a reading is off, as the IOC can know it from the message and up/clock."""
        ms = self.answers[told.count - 1].ms
        if told.clk != "unsynced":
            return (told.ts - self.ledger.anchor - ms) / 1000
        anchors = {body["boot"]: body["anchor"] for body in self.ledger.said["clock"]}
        return (told.mono + anchors.get(told.boot, 0) - self.ledger.anchor - ms) / 1000

    def disorder(self) -> list[str]:
        """Live readings, and the backlog, that did not come in the order in which they were read."""
        found = []
        for live in (True, False):
            counts = [told.count for told in self.ledger.told if told.live == live]
            found += [f"{b} came after {a}" for a, b in itertools.pairwise(counts) if b < a]
        return found


@contextlib.asynccontextmanager
async def clockwork(folder: Path) -> AsyncIterator[Clockwork]:
    """Set it up; the machine is off."""
    broker = Mosquitto(folder / "broker")
    ledger = Ledger()
    made = Clockwork(folder, broker, ledger, Ioc(broker.host, broker.port, ledger))
    try:
        await broker.start()
        await made.ioc.start()
        yield made
    finally:
        await made.end()
        await made.ioc.stop()
        await broker.close()
