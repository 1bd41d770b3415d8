"""Plays every device of a site, and knows what each point truly held."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from drivers.base import Value
from gateway.clock import Clock
from gateway.model import Bus, SerialPort, Site
from gateway.simulator.device import FakeBus, FakeDevice
from gateway.simulator.line import SerialLine
from gateway.simulator.tcp import TcpDoor


class Simulator:
    """Field devices that answer like real ones, on pseudo-terminals and TCP.

    Registers move every `tick` seconds, all of a device at once. `turnaround` gives devices (by name) another thinking
    time than 3 ms, in seconds. GatewayError for a device or framing that cannot be played.
    """

    def __init__(
        self,
        site: Site,
        *,
        seed: int = 1,
        tick: float = 1.0,
        clock: Clock | None = None,
        turnaround: Mapping[str, float] | None = None,
    ) -> None:
        self._clock = clock or Clock(trust="system")
        self._tick = tick
        self._devices: dict[str, FakeDevice] = {}
        self._ports: dict[str, SerialLine | TcpDoor] = {
            bus.name: self._port(bus, seed, turnaround or {}) for bus in site.buses
        }
        # Values follow the time of day as it was at the start: a step of the wall clock makes no counter fall.
        self._begin = self._clock.monotonic()
        self._offset = self._clock.wall() - self._begin
        self.ready = asyncio.Event()
        self.refresh()

    def _port(self, bus: Bus, seed: int, turnaround: Mapping[str, float]) -> SerialLine | TcpDoor:
        devices = tuple(FakeDevice(device, seed, self._tick) for device in bus.devices)
        self._devices |= {device.name: device for device in devices}
        behind = FakeBus(bus, devices, turnaround)
        if isinstance(bus.port, SerialPort):
            return SerialLine(behind, bus.port, self._clock)
        return TcpDoor(behind, bus.port, self._clock)

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

    def refresh(self) -> None:
        """Move all registers to the present tick."""
        ticks = (self._clock.monotonic() - self._begin) // self._tick
        t = self._begin + ticks * self._tick + self._offset
        images = [(device, device.image_at(t)) for device in self._devices.values()]
        now = self._clock.mono_ms()
        for device, image in images:
            device.show(image, now)

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
