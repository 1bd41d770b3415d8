"""Plays every device of a site, and knows what each point truly held."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from drivers.base import Value
from gateway.clock import Clock
from gateway.model import Bus, SerialPort, Site
from gateway.simulator.bus import FakeBus
from gateway.simulator.device import FakeDevice
from gateway.simulator.faults import check, parse
from gateway.simulator.line import SerialLine
from gateway.simulator.tcp import TcpDoor


class Simulator:
    """Field devices that answer like real ones, on pseudo-terminals and TCP.

    Registers move every `tick` seconds, all of a device at once. `turnaround` gives devices (by name) another thinking
    time than 3 ms (TCP: none), in seconds. `faults` gives devices and buses (by name) faults in their text form, in the
    order in which they work. GatewayError for a device, framing or fault that cannot be played.

    `buses` are the lines without a port, to be asked by a test on a clock of its own: see FakeBus.
    """

    def __init__(
        self,
        site: Site,
        *,
        seed: int = 1,
        tick: float = 1.0,
        clock: Clock | None = None,
        turnaround: Mapping[str, float] | None = None,
        faults: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self._clock = clock or Clock(trust="system")
        self._tick, self._site = tick, site
        self._devices: dict[str, FakeDevice] = {}
        self.buses = {bus.name: self._bus(bus, seed, turnaround or {}) for bus in site.buses}
        self._ports = {name: self._port(bus) for name, bus in self.buses.items()}
        # Values follow the time of day as it was at the start: a step of the wall clock makes no counter fall.
        self._begin = self._clock.monotonic()
        self._offset = self._clock.wall() - self._begin
        self.ready = asyncio.Event()
        self.refresh()
        for name, texts in (faults or {}).items():
            self.afflict(name, texts)

    def _bus(self, bus: Bus, seed: int, turnaround: Mapping[str, float]) -> FakeBus:
        devices = tuple(FakeDevice(device, seed, self._tick) for device in bus.devices)
        self._devices |= {device.name: device for device in devices}
        return FakeBus(bus, devices, turnaround, seed)

    def _port(self, behind: FakeBus) -> SerialLine | TcpDoor:
        port = behind.bus.port
        if isinstance(port, SerialPort):
            return SerialLine(behind, port, self._clock)
        return TcpDoor(behind, port, self._clock)

    @property
    def addresses(self) -> dict[str, str]:
        """Bus -> where it is served: "host:port", or the path of the serial port."""
        return {name: port.address for name, port in self._ports.items()}

    @property
    def answered(self) -> dict[str, int]:
        """Device -> requests that it answered (broadcasts included), exceptions too."""
        return {name: device.answered for name, device in self._devices.items()}

    def held(self, device: str, point: str, at_ms: int, slack_ms: int = 50) -> tuple[Value, ...]:
        """The values that a point held around a monotonic time, as a correct driver must report them.

        One value, more across ticks and writes, oldest first; empty for a time that is forgotten (15 minutes). None
        stands for a value that a driver must call bad. KeyError for an unknown device or point.
        """
        return self._devices[device].held(point, at_ms, slack_ms)

    def afflict(self, name: str, faults: Iterable[str]) -> None:
        """Give a device or a bus these faults from now on, in the place of those it had; none of them heals it.

        A fault is written as on the command line: "late seconds=1.5 rate=0.1". A device's fault that is given to a bus
        befalls each of its devices. GatewayError for an unknown name or fault, and then nothing changes.
        """
        given = [parse(text) for text in faults]
        check(self._site.buses, name, given)
        now = self._clock.monotonic()
        for bus_name, bus in self.buses.items():
            bus.afflict(name, given, now)
            self._ports[bus_name].pace.wake()

    def refresh(self) -> None:
        """Move all registers to the present tick."""
        ticks = (self._clock.monotonic() - self._begin) // self._tick
        t = self._begin + ticks * self._tick + self._offset
        for device in self._devices.values():
            device.settle(self._clock.monotonic())
        images = [(device, device.image_at(t)) for device in self._devices.values()]
        now = self._clock.mono_ms()
        for device, image in images:
            device.show(image, now, t)

    async def run(self) -> None:
        """Serve until cancelled. GatewayError when a port cannot be made."""
        async with AsyncExitStack() as opened:
            for port in self._ports.values():
                await port.open()
                opened.push_async_callback(port.close)
            async with asyncio.TaskGroup() as tasks:
                for port in self._ports.values():
                    tasks.create_task(port.serve())
                tasks.create_task(self._move())

    async def _move(self) -> None:
        self.refresh()
        self.ready.set()
        try:
            while True:
                passed = self._clock.monotonic() - self._begin
                await asyncio.sleep(self._tick - passed % self._tick)
                self.refresh()
        finally:
            self.ready.clear()
