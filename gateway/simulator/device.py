"""A field device: its registers, what its points truly held, and what it knows of itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from drivers.base import Point, Value
from gateway.errors import GatewayError
from gateway.model import Device
from gateway.simulator import about
from gateway.simulator.answer import answer
from gateway.simulator.effects import SILENT, Live, verdict
from gateway.simulator.faults import span
from gateway.simulator.image import Area, Image, Write, layout_of, overlay
from gateway.simulator.motion import Motion, motion
from gateway.simulator.pdu import Memory, Tally, refusal
from gateway.simulator.registers import BIT_TABLES, field, get, put, value, where

_REMEMBERED = 900  # seconds of history
_MOST_SNAPSHOTS = 20_000
_IDENTIFYING = frozenset({17, 43})
_OWN_OBJECT = 0x80
_LONGEST_OBJECT = 244  # bytes that fit in one frame


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
        self.faults: tuple[Live, ...] = ()
        self._given: dict[str, tuple[Live, ...]] = {}
        self._started = -math.inf  # monotonic seconds of the last reboot
        self._device, self._seed = device, seed
        self._layout = layout_of(device.points)
        self._slots = self._moving(None)
        self._written: dict[tuple[str, int], bytes] = {}
        self._records: dict[tuple[int, int], bytes] = {}
        self._tally = Tally()
        self._past: deque[tuple[int, Image]] = deque(maxlen=min(_MOST_SNAPSHOTS, int(_REMEMBERED / tick) + 1))
        self._t = 0.0
        self.image = Image(self._layout, tuple(map(bytes, self._layout.blank())))

    def _moving(self, since: float | None) -> dict[str, _Slot]:
        # Parts of a register come after the points that fill it: an alarm word and its bits may share an address.
        points = sorted(self._device.points, key=lambda point: field(where(point)) is not None)
        return {point.name: self._slot(point, motion(self._seed, self.name, point, since)) for point in points}

    def _slot(self, point: Point, moves: Motion) -> _Slot:
        at = where(point)
        area = self._layout.area(at.table, at.at, at.count)
        assert area is not None
        return _Slot(point, moves, area, (at.at - area.start) * area.width)

    def afflict(self, source: str, faults: Sequence[Live]) -> None:
        """Give the device these faults in the place of what `source` (its own name, or its bus) gave it before."""
        self._given[source] = tuple(faults)
        self.faults = tuple(live for given in self._given.values() for live in given)

    def settle(self, at: float) -> None:
        """Start again where a reboot was due until `at` (monotonic seconds): counters begin from zero."""
        spans = [(live, span(live.fault, at - live.begin)) for live in self.faults if live.fault.name == "reboot"]
        started = max((live.begin + found.start for live, found in spans if found is not None), default=-math.inf)
        if started > self._started:
            self._started, self._tally = started, Tally()
            self._slots = self._moving(self._t)
            self.show(self.image_at(self._t), int(at * 1000), self._t)

    def obey(self, pdu: bytes, at: float, messages: int, *, broadcast: bool = False) -> bytes | None:
        """The reply PDU to a request that came at `at`, the bus's `messages`-th; None when the device keeps silent."""
        code = None
        if self.faults:
            self.settle(at)
            code = verdict(self.faults, at)
        if code == SILENT:
            return None
        objects = self._objects() if pdu[0] in _IDENTIFYING else {}
        memory = Memory(objects, self._records, self._tally, messages)
        found = answer(pdu, self.image, memory) if code is None else refusal(pdu[0], code)
        self.answered += 1
        self._tally = found.tally or about.counted(self._tally, pdu, found.pdu, broadcast=broadcast)
        if found.records is not None:
            self._records.update(found.records)
        if found.write is not None:
            self.write(found.write, int(at * 1000))
        return found.pdu

    def _objects(self) -> Mapping[int, bytes]:
        """What the device tells of itself; nothing where the site does not ask it, as most field devices."""
        told = [live.fault.words for live in self.faults if live.fault.name == "identity"]
        if not told and not self._device.identify:
            return {}
        words = {"vendor": "Simulated", "product": self._device.profile or self._device.kind or "device"}
        words |= {"revision": "1.0"}
        for changes in told:
            words |= changes
        objects = {
            about.VENDOR: words["vendor"],
            about.PRODUCT: words["product"],
            about.REVISION: words["revision"],
            about.URL: "https://example.com",
            about.PRODUCT_NAME: words["product"],
            about.MODEL: words["product"],
            about.APPLICATION: self.name,
            _OWN_OBJECT: f"seed {self._seed}",
        }
        return {key: text.encode()[:_LONGEST_OBJECT] for key, text in objects.items()}

    def image_at(self, t: float) -> Image:
        """The registers at `t` (seconds since 1970 UTC), with what was written on top."""
        blocks = self._layout.blank()
        for slot in self._slots.values():
            put(where(slot.point), slot.motion(t), blocks[slot.area.block], slot.offset)
        for (table, at), data in self._written.items():
            overlay(self._layout, blocks, Write(table, at, data))
        return Image(self._layout, tuple(map(bytes, blocks)))

    def show(self, image: Image, at_ms: int, t: float) -> None:
        """From `at_ms` (monotonic) on the device answers from this image of `t`."""
        self.image, self._t = image, t
        # A request is answered at its end on the wire, which may lie just before a tick that has been shown already.
        self._past.append((max(at_ms, self._past[-1][0]) if self._past else at_ms, image))

    def write(self, write: Write, at_ms: int) -> None:
        """Keep what a client wrote, until it writes again."""
        width = 1 if write.table in BIT_TABLES else 2
        for i in range(len(write.data) // width):
            self._written[write.table, write.at + i] = write.data[i * width : (i + 1) * width]
        self.show(self.image.written(write), at_ms, self._t)

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
