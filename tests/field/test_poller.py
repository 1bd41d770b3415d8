"""The poller with the real Modbus driver, on a link whose far end is a table of what each unit answers.

Time is virtual: an hour of polling takes a moment. Frames are written out here, so that no codec checks itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drivers.base import BadFrame, Exchange, Frame, NoReply, Point
from drivers.modbus.register import Register
from gateway.errors import LinkError
from gateway.field.link import Reply
from gateway.field.poller import Poller
from gateway.model import Bus, Device, Readings, SerialPort

WIRE = 0.030
"""Seconds that one exchange takes here."""


def crc(data: bytes) -> bytes:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


def registers(unit: int, *words: int) -> bytes:
    body = bytes((unit, 3, 2 * len(words))) + b"".join(word.to_bytes(2, "big") for word in words)
    return body + crc(body)


class Line:
    """A link: `units` maps a unit to its answer (bytes), None for silence; `broken` makes the port unusable."""

    def __init__(self, hands: Any) -> None:
        self.busy = 0.0
        self.units: dict[int, bytes | None] = {}
        self.asked: list[tuple[float, int]] = []
        self.broken = ""
        self.opened = 0
        self._hands = hands

    async def open(self) -> None:
        self.opened += 1
        if self.broken:
            raise LinkError(self.broken)

    def close(self) -> None:
        pass

    async def exchange(self, step: Exchange, timeout: float) -> Reply:
        if self.broken:
            raise LinkError(self.broken)
        unit = step.request[0]
        self.asked.append((self._hands.now, unit))
        answer = self.units[unit]
        await asyncio.sleep(WIRE if answer is not None else timeout)
        self.busy += WIRE
        if answer is None:
            raise NoReply("no answer")
        found = step.find(answer) if step.find else None
        if not isinstance(found, Frame):
            raise BadFrame("no frame")
        return Reply(answer[found.start : found.end], self._hands.now)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Sink:
    def __init__(self) -> None:
        self.readings: list[Readings] = []
        self.events: list[dict[str, Any]] = []

    async def append(self, readings: Readings) -> None:
        self.readings.append(readings)

    async def append_message(self, stream: str, body: Any) -> None:
        assert stream == "e"
        self.events.append(dict(body))

    def of(self, device: str) -> list[Readings]:
        return [readings for readings in self.readings if readings.device == device]

    def codes(self) -> list[tuple[str, str, str]]:
        return [(event["code"], event["state"], event["device"]) for event in self.events]


def device(unit: int, *points: Point) -> Device:
    return Device(f"meter-{unit}", "modbus", unit, points, options={"unit": unit, "framing": "rtu"}, cfg="00000000")


def voltage(every: float | None = 1.0) -> Point:
    return Point("voltage", Register("holding", 0), every=every, scale=0.1, decimals=1, unit="V")


@pytest.fixture
def rig(hands, virtually):
    """Build a bus, let it poll for so many virtual seconds, return what came of it."""

    class Rig:
        line = Line(hands)
        sink = Sink()
        poller: Poller

        def poll(self, devices: tuple[Device, ...], seconds: float, script: Any = None) -> None:
            async def main() -> None:
                bus = Bus("rs485-1", SerialPort("/dev/x"), "rtu", devices, timeout=0.5)
                self.poller = Poller(bus, self.line, hands.clock(), self.sink, start=hands.now)
                tasks = [asyncio.create_task(self.poller.run())]
                if script:
                    tasks.append(asyncio.create_task(script()))
                await asyncio.sleep(seconds)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

            virtually(main())

    return Rig()


def test_an_hour_of_polling_stays_on_the_grid_and_is_stamped_at_the_end_of_the_reply(rig, hands):
    start = hands.now
    rig.line.units = {1: registers(1, 2302)}
    rig.poll((device(1, voltage()),), 3600.0)
    readings = rig.sink.of("meter-1")
    assert [round(r.at - 1000 * start) for r in readings] == [1000 * n + 30 for n in range(3600)]
    assert {tuple(r.samples[0]) for r in readings} == {("voltage", 230.2, "good")}


def test_a_silent_device_is_declared_dead_once_and_costs_the_others_little(rig):
    rig.line.units = {1: registers(1, 1), 2: None, 3: registers(3, 3)}
    rig.poll(tuple(device(unit, voltage()) for unit in (1, 2, 3)), 600.0)
    assert rig.sink.codes() == [("device-silent", "raised", "meter-2")]
    assert len(rig.sink.of("meter-1")) >= 590
    assert len(rig.sink.of("meter-3")) >= 590
    probes = [at for at, unit in rig.line.asked if unit == 2]
    assert len(probes) < 25
    assert {s.quality for r in rig.sink.of("meter-2") for s in r.samples} == {"bad:timeout"}


def test_a_device_that_comes_back_is_polled_as_before_and_said_so_once(rig):
    rig.line.units = {1: None}

    async def script() -> None:
        await asyncio.sleep(20.0)
        rig.line.units[1] = registers(1, 7)

    rig.poll((device(1, voltage()),), 300.0, script)
    assert rig.sink.codes() == [("device-silent", "raised", "meter-1"), ("device-silent", "cleared", "meter-1")]
    good = [r for r in rig.sink.of("meter-1") if r.samples[0].quality == "good"]
    assert len(good) >= 200


def test_due_is_read_plus_missed_and_read_is_reported_plus_suppressed(rig):
    rig.line.units = {1: registers(1, 100), 2: None}
    steady = Point("steady", Register("holding", 0), every=1.0, deadband=5)
    rig.poll((device(1, steady), device(2, voltage())), 120.0)
    stats = rig.poller.stats()
    assert stats["due"] == stats["read"] + stats["missed"]
    assert stats["read"] == stats["reported"] + stats["suppressed"]
    assert stats["suppressed"] > 100
    assert stats["missed"] > 50


def test_a_port_that_is_missing_is_waited_for_and_said_so_once(rig):
    rig.line.units = {1: registers(1, 5)}
    rig.line.broken = "/dev/x does not exist"

    async def script() -> None:
        await asyncio.sleep(60.0)
        rig.line.broken = ""

    rig.poll((device(1, voltage()),), 120.0, script)
    assert rig.sink.codes() == [("port-lost", "raised", ""), ("port-lost", "cleared", "")]
    assert "does not exist" in rig.sink.events[0]["text"]
    qualities = [r.samples[0].quality for r in rig.sink.of("meter-1")]
    assert qualities[0] == "bad:timeout"
    assert qualities.count("bad:timeout") == 1
    assert qualities.count("good") >= 54
    assert rig.line.opened < 20


def test_a_frame_that_is_broken_twice_is_bad_crc_and_the_device_lives(rig):
    broken = bytearray(registers(1, 5))
    broken[-1] ^= 1
    rig.line.units = {1: bytes(broken)}
    rig.poll((device(1, voltage()),), 3.5)
    assert {s.quality for r in rig.sink.of("meter-1") for s in r.samples} == {"bad:crc"}
    assert rig.sink.events == []
    assert rig.poller.stats()["bad_frames"] == len(rig.line.asked)


def test_an_exception_reply_is_bad_with_its_number_and_the_device_lives(rig):
    body = b"\x01\x83\x04"
    rig.line.units = {1: body + crc(body)}
    rig.poll((device(1, voltage()),), 10.0)
    assert {tuple(s) for r in rig.sink.of("meter-1") for s in r.samples} == {("voltage", None, "bad:exception-4")}
    assert rig.sink.events == []


def test_a_drivers_bug_costs_its_device_and_not_the_bus(rig, monkeypatch):
    monkeypatch.delenv("GATEWAY_STRICT")
    rig.line.units = {1: registers(1, 5), 2: registers(2, 6)}
    impossible = Point("broken", Register("holding", 0), every=1.0, scale="x", decimals=1)  # type: ignore[arg-type]
    rig.poll((device(1, impossible), device(2, voltage())), 10.0)
    assert {s.quality for r in rig.sink.of("meter-1") for s in r.samples} == {"bad:decode"}
    assert {s.quality for r in rig.sink.of("meter-2") for s in r.samples} == {"good"}


def test_a_counter_goes_on_where_the_last_run_ended(rig, hands, virtually):
    point = Point("count", Register("holding", 0), every=1.0, kind="counter", wraps_at=65536)
    rig.line.units = {1: registers(1, 500)}
    rig.poll((device(1, point),), 1.5)
    left = rig.poller.counters()
    rig.line.units = {1: registers(1, 530)}

    async def second() -> Poller:
        bus = Bus("rs485-1", SerialPort("/dev/x"), "rtu", (device(1, point),))
        poller = Poller(bus, rig.line, hands.clock(), rig.sink, start=hands.now, counters=left)
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return poller

    virtually(second())
    assert [tuple(s) for s in rig.sink.readings[-1].samples] == [
        ("count", 530, "good"),
        ("count.total", 30, "good"),
        ("count.gen", 0, "good"),
    ]
