"""The poller with the real Modbus driver, on a link whose far end is a table of what each unit answers.

Time is virtual: an hour of polling takes a moment. Frames are written out here, so that no codec checks itself.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from drivers.base import BadFrame, Exchange, Frame, NoReply, Point
from drivers.base import Line as LineForm
from drivers.modbus.register import Register
from gateway.errors import LinkError
from gateway.field.link import QUIET_GAP, Reply
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
        self.busy = self.free_at = 0.0
        self.units: dict[int, bytes | None] = {}
        self.answer: Any = None
        self.requests: list[bytes] = []
        self.asked: list[tuple[float, int]] = []
        self.spent: list[tuple[float, int, float]] = []
        self.broken = ""
        self.opened = 0
        self._hands = hands

    async def open(self) -> None:
        self.opened += 1
        if self.broken:
            raise LinkError(self.broken)

    def close(self) -> None:
        pass

    async def exchange(self, step: Exchange, timeout: float, quiet_gap: float = QUIET_GAP) -> Reply:
        if self.broken:
            raise LinkError(self.broken)
        unit = step.request[0]
        self.asked.append((self._hands.now, unit))
        self.requests.append(step.request)
        answer = self.answer(step.request) if self.answer else self.units[unit]
        seconds = WIRE if answer is not None else timeout
        self.spent.append((self._hands.now, unit, seconds))
        await asyncio.sleep(seconds)
        self.busy += WIRE
        if answer is None:
            raise NoReply("no answer")
        found = step.find(answer) if step.find else None
        if not isinstance(found, Frame):
            raise BadFrame("no frame")
        return Reply(answer[found.start : found.end], self._hands.now)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set_line(self, line: LineForm | None) -> None:
        pass

    def strays(self) -> bytes:
        return b""

    def errors(self) -> dict[str, int]:
        return {}


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

    def good(self, device: str) -> list[Readings]:
        return [readings for readings in self.of(device) if readings.samples[0].quality == "good"]

    def codes(self) -> list[tuple[str, str, str]]:
        return [(event["code"], event["state"], event["device"]) for event in self.events]


def device(unit: int, *points: Point, **more: Any) -> Device:
    options = {"unit": unit, "framing": "rtu"}
    return Device(f"meter-{unit}", "modbus", unit, points, options=options, cfg="00000000", **more)


def voltage(every: float | None = 1.0) -> Point:
    return Point("voltage", Register("holding", 0), every=every, scale=0.1, decimals=1, unit="V")


@pytest.fixture
def rig(hands, virtually):
    """Build a bus, let it poll for so many virtual seconds, return what came of it."""

    class Rig:
        line = Line(hands)
        sink = Sink()
        poller: Poller

        def poll(self, devices: tuple[Device, ...], seconds: float, script: Any = None, **left: Any) -> None:
            async def main() -> None:
                bus = Bus("rs485-1", SerialPort("/dev/x"), "rtu", devices, timeout=0.5)
                self.poller = Poller(bus, self.line, hands.clock(), self.sink, start=hands.now, **left)
                polling = asyncio.create_task(self.poller.run())
                scripted = asyncio.create_task(script()) if script else None
                await asyncio.sleep(seconds)
                if scripted:
                    await scripted
                polling.cancel()
                await asyncio.gather(polling, return_exceptions=True)

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
    assert rig.line.opened < 25  # every 4 s, a fifth more or less


def test_a_frame_that_is_broken_twice_is_bad_crc_and_the_device_lives(rig):
    broken = bytearray(registers(1, 5))
    broken[-1] ^= 1
    rig.line.units = {1: bytes(broken)}
    rig.poll((device(1, voltage()),), 2.5)
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


# The ladder -----------------------------------------------------------------------------------------------------------


def test_the_living_keep_their_rate_beside_many_dead_ones(rig):
    rig.line.units = {unit: registers(unit, 1) if unit <= 3 else None for unit in range(1, 31)}
    rig.poll(tuple(device(unit, voltage(None)) for unit in range(1, 31)), 120.0)
    late = rig.line.asked[-1][0] - 60.0
    dead = sum(seconds for at, unit, seconds in rig.line.spent if at > late and unit > 3)
    assert 0 < dead <= 0.05 * 60.0
    assert {unit for at, unit in rig.line.asked if at > late and unit <= 3} == {1, 2, 3}


def test_a_dead_device_is_probed_with_one_short_question(rig, hands):
    points = tuple(Point(f"p{n}", Register("holding", 50 * n), every=1.0) for n in range(4))
    rig.line.units = {1: registers(1, 7), 2: registers(2, 1)}

    async def script() -> None:
        await asyncio.sleep(30.0)
        rig.line.units[1] = None

    rig.poll((device(1, *points), device(2, voltage())), 90.0, script)
    probes = [at for at, unit in rig.line.asked if unit == 1 and at > hands.now - 50.0]
    assert len(probes) < 10
    gaps = [after - before for before, after in pairwise(probes)]
    assert min(gaps) > 1.0  # one question each time, not one for each of the four requests
    others = [r.at / 1000 for r in rig.sink.of("meter-2")]
    assert max(after - before for before, after in pairwise(others)) < 1.6


def test_a_device_whose_answers_are_never_readable_is_given_up_like_a_silent_one(rig):
    rig.line.units = {1: b"\x00" * 7, 2: registers(2, 1)}
    rig.poll((device(1, voltage(None)), device(2, voltage(None))), 120.0)
    assert rig.sink.codes()[0] == ("device-silent", "raised", "meter-1")
    assert "not readable" in rig.sink.events[0]["text"]
    asked = [unit for _, unit in rig.line.asked]
    assert asked.count(1) < 0.05 * asked.count(2)


def test_when_nothing_answers_the_port_is_opened_anew_and_the_line_is_blamed(rig):
    rig.line.units = {1: None, 2: None, 3: None}
    rig.poll(tuple(device(unit, voltage()) for unit in (1, 2, 3)), 300.0)
    assert 3 <= rig.line.opened <= 6
    silent = [told for told in rig.sink.events if told["code"] == "line-silent"]
    assert [told["state"] for told in silent] == ["raised"]
    assert "A and B" in silent[0]["cause"]
    assert [code for code, state, _ in rig.sink.codes() if code == "port-lost"] == []


def test_a_dead_device_that_answers_a_technician_is_polled_at_once(rig, hands):
    rig.line.units = {1: None, 2: registers(2, 2)}

    async def script() -> None:
        await asyncio.sleep(200.0)
        rig.line.units[1] = registers(1, 1)
        unit = rig.poller.units[0]
        samples = await rig.poller.talks.ask(unit.driver.poll(unit.device.points, hands.now), unit.partner)
        assert samples[0].quality == "good"
        await asyncio.sleep(1.5)
        assert len(rig.sink.good("meter-1")) >= 1

    rig.poll((device(1, voltage()), device(2, voltage())), 210.0, script)
    assert ("device-silent", "cleared", "meter-1") in rig.sink.codes()
    assert len(rig.sink.good("meter-1")) >= 7


def test_health_tells_of_the_worst_devices_only(rig):
    rig.line.units = {unit: None if unit % 2 else registers(unit, 1) for unit in range(1, 101)}
    rig.poll(tuple(device(unit, voltage(60.0)) for unit in range(1, 101)), 300.0)
    trouble = rig.poller.stats()["trouble"]
    assert len(trouble["devices"]) == 16
    assert all(int(name.removeprefix("meter-")) % 2 for name in trouble["devices"])


def test_the_line_is_well_again_when_devices_answer(rig):
    rig.line.units = {1: None, 2: None}

    async def script() -> None:
        await asyncio.sleep(60.0)
        rig.line.units |= {1: registers(1, 1), 2: registers(2, 2)}

    rig.poll((device(1, voltage()), device(2, voltage())), 300.0, script)
    assert [state for code, state, _ in rig.sink.codes() if code == "line-silent"] == ["raised", "cleared"]
    assert len(rig.sink.good("meter-1")) > 150


# Rests ----------------------------------------------------------------------------------------------------------------


def test_a_device_that_needs_a_rest_between_requests_gets_it_and_the_others_have_the_bus(rig):
    far_apart = (Point("a", Register("holding", 0), every=2.0), Point("b", Register("holding", 500), every=2.0))
    rig.line.units = {1: registers(1, 7), 2: registers(2, 1)}
    rig.poll((device(1, *far_apart, min_interval=0.5), device(2, voltage(None))), 60.0)
    times = [at for at, unit in rig.line.asked if unit == 1]
    assert len(times) >= 58
    assert min(after - before for before, after in pairwise(times)) >= 0.5
    stats = rig.poller.stats()
    assert stats["due"] - stats["read"] <= 1  # one was on its way when the test ended
    assert stats["missed"] == 0


def test_a_battery_device_is_left_alone_in_its_quiet_hours(rig, hands):
    second = hands.clock().second_of_day()
    quiet = ((second + 600) % 86400, (second + 1800) % 86400)
    rig.line.units = {1: registers(1, 7)}
    start = hands.now
    rig.poll((device(1, voltage(10.0), quiet=(quiet,)),), 3600.0)
    times = [at - start for at, _ in rig.line.asked]
    assert [at for at in times if 601 < at < 1799] == []
    assert len([at for at in times if at >= 1800]) >= 179
    assert rig.poller.stats()["missed"] == 0


# What devices teach ---------------------------------------------------------------------------------------------------


def test_what_a_device_refused_is_remembered_by_the_next_run_and_forgotten_with_its_profile(rig):
    body = b"\x01\x83\x02"
    points = (Point("a", Register("holding", 0), every=1.0), Point("b", Register("holding", 4), every=1.0))
    answers = iter([body + crc(body)])
    rig.line.answer = lambda request: next(answers, registers(1, *range(request[5])))
    rig.poll((device(1, *points),), 3.5)
    learned = rig.poller.learned()
    assert learned["meter-1"]["holes"] == [["holding", 1, 3]]
    rig.line.requests.clear()
    rig.poll((device(1, *points),), 0.5, learned=learned)
    assert [(r[3], r[5]) for r in rig.line.requests] == [(0, 1), (4, 1)]
    rig.line.requests.clear()
    rig.poll((device(1, *points, profile_sha256="another"),), 0.5, learned=learned)
    assert [(r[3], r[5]) for r in rig.line.requests] == [(0, 5)]


def test_a_counter_that_reading_clears_is_summed_up(rig):
    point = Point("pulses", Register("holding", 0), every=1.0, kind="counter", read_clears=True)
    counts = iter([5, 7, 0, 3])
    rig.line.answer = lambda request: registers(1, next(counts))
    rig.poll((device(1, point),), 3.5)
    totals = [s.value for r in rig.sink.of("meter-1") for s in r.samples if s.point == "pulses.total"]
    assert totals == [5, 12, 12, 15]


def test_a_device_that_is_only_told_is_never_asked(rig):
    rig.line.units = {1: registers(1, 5)}
    rig.poll((device(0, voltage(), polled=False), device(1, voltage())), 10.0)
    assert {unit for _, unit in rig.line.asked} == {1}
    assert rig.sink.of("meter-0") == []
