"""A field device that answers, what its points truly held, and the bus it sits on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from drivers.base import Point, Value
from gateway.errors import GatewayError
from gateway.model import Bus, Device, SerialPort
from gateway.simulator.answer import NO_TARGET, answer, refusal
from gateway.simulator.image import Area, Image, Write, layout_of, overlay
from gateway.simulator.motion import Motion, motion
from gateway.simulator.registers import BIT_TABLES, field, get, put, value, where
from gateway.simulator.wire import FRAMINGS, Request

TURNAROUND = 0.003
"""Seconds that a device thinks before it answers on a serial line."""

_REMEMBERED = 900  # seconds of history
_MOST_SNAPSHOTS = 20_000


class _Slot(NamedTuple):
    """A point, how it moves, and where it stands in the blocks."""

    point: Point
    motion: Motion
    area: Area
    offset: int


class FakeDevice:
    """The registers of one device: moved by a tick, changed by writes, remembered for 15 minutes."""

    def __init__(self, device: Device, seed: int, tick: float) -> None:
        if device.driver != "modbus":
            raise GatewayError(
                f"{device.name}: the simulator cannot play a device with driver {device.driver!r}; it speaks Modbus "
                "only. Take the device out of the site file that you simulate."
            )
        self.name, self.unit = device.name, device.address
        self.answered = 0
        self._layout = layout_of(device.points)
        # Parts of a register come after the points that fill it: an alarm word and its bits may share an address.
        points = sorted(device.points, key=lambda point: field(where(point)) is not None)
        self._slots = {point.name: self._slot(point, motion(seed, device.name, point)) for point in points}
        self._written: dict[tuple[str, int], bytes] = {}
        self._past: deque[tuple[int, Image]] = deque(maxlen=min(_MOST_SNAPSHOTS, int(_REMEMBERED / tick) + 1))
        self.image = Image(self._layout, tuple(map(bytes, self._layout.blank())))

    def _slot(self, point: Point, moves: Motion) -> _Slot:
        at = where(point)
        area = self._layout.area(at.table, at.at, at.count)
        assert area is not None
        return _Slot(point, moves, area, (at.at - area.start) * area.width)

    def image_at(self, t: float) -> Image:
        """The registers at `t` (seconds since 1970 UTC), with what was written on top."""
        blocks = self._layout.blank()
        for slot in self._slots.values():
            put(where(slot.point), slot.motion(t), blocks[slot.area.block], slot.offset)
        for (table, at), data in self._written.items():
            overlay(self._layout, blocks, Write(table, at, data))
        return Image(self._layout, tuple(map(bytes, blocks)))

    def show(self, image: Image, at_ms: int) -> None:
        """From `at_ms` (monotonic) on the device answers from this image."""
        self.image = image
        self._past.append((at_ms, image))

    def write(self, write: Write, at_ms: int) -> None:
        """Keep what a client wrote, until it writes again."""
        width = 1 if write.table in BIT_TABLES else 2
        for i in range(len(write.data) // width):
            self._written[write.table, write.at + i] = write.data[i * width : (i + 1) * width]
        self.show(self.image.written(write), at_ms)

    def held(self, point: str, at_ms: int, slack_ms: int) -> tuple[Value, ...]:
        """What the point held between at_ms - slack_ms and at_ms + slack_ms, oldest first, repeats left out."""
        slot, found, until = self._slots[point], [], None
        for since, image in reversed(self._past):
            if since <= at_ms + slack_ms and (until is None or until > at_ms - slack_ms):
                found.append(value(slot.point, get(where(slot.point), image.blocks[slot.area.block], slot.offset)))
            if since <= at_ms - slack_ms:
                break
            until = since
        return tuple(dict.fromkeys(reversed(found)))


class Reply(NamedTuple):
    """A reply frame, and the seconds after the request's end at which its device begins to send it."""

    frame: bytes
    turnaround: float


class FakeBus:
    """All devices behind one port. `respond` is the one place between request and reply frame."""

    def __init__(self, bus: Bus, devices: tuple[FakeDevice, ...], turnaround: Mapping[str, float]) -> None:
        if bus.framing not in FRAMINGS:
            raise GatewayError(
                f"{bus.name}: the simulator does not know the framing {bus.framing!r}: {', '.join(FRAMINGS)}."
            )
        self.bus, self.framing = bus, FRAMINGS[bus.framing]
        self._devices = {device.unit: device for device in devices}
        self._turnaround = turnaround

    def respond(self, request: Request, at_ms: int) -> Reply | None:
        """The reply to a request; None for silence: a broadcast, or a unit that does not exist on a line."""
        if request.unit == 0 and self.bus.framing != "tcp":
            for everyone in self._devices.values():
                self._ask(everyone, request.pdu, at_ms)
            return None
        device = self._devices.get(request.unit)
        if device is not None:
            pdu = self._ask(device, request.pdu, at_ms)
            return Reply(self.framing.wrap(request, pdu), self._turnaround.get(device.name, TURNAROUND))
        if self.bus.framing == "tcp":
            return Reply(self.framing.wrap(request, refusal(request.pdu[0], NO_TARGET).pdu), 0.0)
        return None

    def _ask(self, device: FakeDevice, pdu: bytes, at_ms: int) -> bytes:
        reply, write = answer(pdu, device.image)
        device.answered += 1
        if write is not None:
            device.write(write, at_ms)
        return reply

    @property
    def character(self) -> float:
        """Seconds that one character takes on the line; 0 where there is none."""
        port = self.bus.port
        return port.bits / port.baud if isinstance(port, SerialPort) else 0.0
