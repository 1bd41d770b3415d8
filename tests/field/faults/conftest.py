"""A bus on a virtual clock: the real poller, driver and link on one side, the simulator's faulty devices on the other.

Every register of every device has a range of values of its own, which only the simulator knows: a value that got into
another register's place, or came from another device, is seen at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from drivers.base import Point
from drivers.modbus.register import Register
from gateway.errors import LinkError
from gateway.field.poller import Poller
from gateway.model import Bus, Device, Readings, Site, StoreSettings, Uplink
from gateway.simulator import Simulator

BUS = "rs485-1"
SLACK_MS = 4000
"""How old a value may be: a slow device and a repeated request take their time. Another register's is wrong anyway."""
LOOK = 0.05


@pytest.fixture
def polls(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--polls"))


def devices(units: Sequence[int], every: float | None, identify: bool, *, known: bool) -> tuple[Device, ...]:
    """Devices with two blocks of ten registers each, far apart and of the same shape.

    `known` adds the ranges in which the simulator moves the values; the agent does not know them.
    """
    made = []
    for number, unit in enumerate(units):
        points = []
        for k in range(20):
            low = 20.0 + 10 * (20 * number + k)
            limits = {"low": low, "high": low + 9} if known else {}
            points.append(Point(f"p{k}", Register("holding", k if k < 10 else 490 + k), every=every, **limits))
        options = {"unit": unit, "framing": "rtu"}
        name = f"meter-{unit}"
        made.append(Device(name, "modbus", unit, tuple(points), options=options, cfg="00000000", identify=identify))
    return tuple(made)


@dataclass
class Tally:
    """What came of a run: readings by quality, and every value that its register never held."""

    qualities: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[tuple[str, str, Any]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def good(self, device: str) -> int:
        return self.qualities.get(device, Counter())["good"]


class Field:
    """One run. The sink of the poller is this object: it judges each reading as it comes."""

    def __init__(
        self, hands: Any, line: Any, units: Sequence[int], every: float | None, seed: int, identify: bool, after: float
    ) -> None:
        port = line.port
        make = lambda known: Bus(BUS, port, "rtu", devices(units, every, identify, known=known), timeout=1.0)
        site = Site("simulator", "", "system", Uplink(()), StoreSettings(), (make(True),))
        self.simulator = Simulator(site, seed=seed, clock=hands.clock())
        self.line = line
        self.line.answer = self._answer
        self.tally = Tally()
        self.poller: Poller
        self._hands = hands
        self._bus = make(False)
        self._behind = self.simulator.buses[BUS]
        self._character = port.bits / port.baud
        self._there = True
        self._count_from = hands.now + after

    async def run(self, polls: int, learned: Mapping[str, Any] | None = None, seconds: float = 1e9) -> Tally:
        """Poll until so many readings were told, or so much virtual time has passed."""
        link = self.line.link()
        open_port = self.line.open_port
        link._open_port = lambda port: open_port(port) if self._there else _gone()  # type: ignore[assignment]
        self.poller = Poller(self._bus, link, self._hands.clock(), self, start=self._hands.now, learned=learned)
        end = self._hands.now + seconds
        tasks = [asyncio.create_task(work) for work in (self.poller.run(), self._move(), self._unasked())]
        told = 0
        while told < 10 * polls and self._hands.now < end and not tasks[0].done():
            await asyncio.sleep(1.0)
            told = sum(counts.total() for counts in self.tally.qualities.values())
        if tasks[0].done():
            tasks[0].result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.tally

    async def append(self, readings: Readings) -> None:
        counts = self.tally.qualities.setdefault(readings.device, Counter())
        for name, value, quality in readings.samples:
            counts[quality] += self._hands.now >= self._count_from
            if value is not None and value not in self.simulator.held(readings.device, name, readings.at, SLACK_MS):
                self.tally.wrong.append((readings.device, name, value))

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None:
        self.tally.events.append((body["code"], body["state"], body["device"]))

    def _answer(self, frame: bytes) -> None:
        now = self._hands.now
        for due, data in self._behind.answer(frame, now + len(frame) * self._character):
            self.line.say(data, after=due - now)

    async def _move(self) -> None:
        while True:
            self.simulator.refresh()
            await asyncio.sleep(1.0)

    async def _unasked(self) -> None:
        """What the line does by itself: babble, and the adapter that goes and comes back."""
        seen = self._hands.now
        while True:
            await asyncio.sleep(LOOK)
            now = self._hands.now
            there, self._there = self._there, not self._behind.unplugged(now)
            if there and not self._there:
                self.line.unplug()
            for due, data in self._behind.babble(seen, now + LOOK) if self._behind.restless else ():
                self.line.say(data, after=due - now)
            seen = now + LOOK


def _gone() -> Any:
    raise LinkError("/dev/memory does not exist")


@pytest.fixture
def field_of(hands, virtually, memory_line):
    """Run a bus with faults: {device or bus: ["late seconds=2", ...]}; every=None is as fast as possible.

    Readings are counted from `after` seconds on; `script(field)` runs beside it, `at_end(simulator)` behind it.
    """

    def run(
        faults: Mapping[str, Sequence[str]],
        units: Sequence[int] = (1, 2, 3, 4, 5),
        *,
        polls: int = 10**9,
        seconds: float = 1e9,
        baud: int = 19200,
        every: float | None = None,
        seed: int = 1,
        identify: bool = False,
        after: float = 0.0,
        script: Any = None,
        at_end: Any = None,
    ) -> Tally:
        async def main() -> Tally:
            random.seed(seed)  # the poller's jitter
            field_ = Field(hands, memory_line(baud), units, every, seed, identify, after)
            for name, texts in faults.items():
                field_.simulator.afflict(name, texts)
            scripted = asyncio.create_task(script(field_)) if script else None
            tally = await field_.run(polls, seconds=seconds)
            if scripted:
                await scripted
            if at_end:
                at_end(field_.simulator)
            return tally

        return virtually(main())

    return run
