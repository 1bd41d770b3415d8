"""A scan on a line that lives in virtual time: devices of the simulator behind it, at one speed, and what goes wrong.

An hour of scanning takes a moment, and every request that was sent is looked at.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.base import BusError, Line
from gateway.control.desk import Desk
from gateway.control.findings import Findings
from gateway.control.scan import knowledge_of, wish_of
from gateway.control.search import Search
from gateway.errors import Declined, LinkError
from gateway.field.link import Inbox, Reply
from gateway.field.poller import Poller
from gateway.model import Bus, SerialPort, Site, StoreSettings, TcpPort, Uplink
from gateway.settings import device_from_profile
from gateway.settings.profile import SHIPPED
from gateway.simulator import Simulator
from gateway.simulator.wire import Delivery, crc16

READS = {1, 2, 3, 4, 17, 43}
OWN = Line(9600, "8N1")
KNOWLEDGE, _ = knowledge_of([SHIPPED])


class Wire:
    """The port of a line. `true` is the setting of its devices; at another one they are deaf, or not readable."""

    def __init__(self, hands: Any, bus: Bus, behind: Any, true: Line) -> None:
        self.busy = self.free_at = 0.0
        self.requests: list[tuple[Line, bytes]] = []
        self.hear_garbage: set[Line] = set()
        self.cannot: set[Line] = set()
        self.lost = self.never = ""
        self._own = Line(bus.port.baud, bus.port.format) if isinstance(bus.port, SerialPort) else OWN
        self._true, self._behind = true, behind
        self._clock = hands.clock()
        self.line = self._own

    async def open(self) -> None:
        if self.never:
            raise LinkError(self.never)
        self._inbox = Inbox(self._clock, "wire")

    def close(self) -> None:
        pass

    async def exchange(self, step: Any, timeout: float, quiet_gap: float = 0.0) -> Reply:
        now, loop = self._clock.monotonic, asyncio.get_running_loop()
        began, character = now(), 10 / self.line.baud
        self.requests.append((self.line, step.request))
        if self.lost:
            text, self.lost = self.lost, ""
            raise LinkError(text)
        await asyncio.sleep(len(step.request) * character)
        sent = now()
        if self.line == self._true:
            for due, data in self._behind.answer(step.request, sent):
                loop.call_at(due, self._inbox.feed, data)
        elif self.line in self.hear_garbage and self._behind.answer(step.request, sent):
            loop.call_later(0.005, self._inbox.feed, bytes.fromhex("fe f8 1c 9e 07 f0 e1"))
        try:
            return await self._inbox.reply(step, sent, sent + timeout + step.reply_size * character, character)
        finally:
            self.busy += now() - began

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set_line(self, line: Line | None) -> None:
        if line in self.cannot:
            raise BusError(f"wire cannot be set to {line.baud} {line.format}")
        self.line = line or self._own

    def errors(self) -> dict[str, int]:
        return {}

    def strays(self) -> bytes:
        return self._inbox.strays


class Nowhere:
    async def append(self, readings: Any) -> None: ...

    async def append_message(self, stream: str, body: Any) -> None: ...


class Rig:
    """A bus whose devices stand at `units`; the site file has those of `known`, and speed and format of `own`."""

    def __init__(
        self, hands, units, *, own=OWN, true=OWN, known=(), faults=None, turnaround=None, port=None, every=10.0
    ) -> None:
        self.hands = hands
        framing = "tcp" if port else "rtu"
        port = port or SerialPort("/dev/ttyX", own.baud, own.format)
        made = tuple(
            replace(device_from_profile(profile, unit, "line"), name=f"d{unit}", identify=unit % 2 == 1)
            for unit, profile in units.items()
        )
        made = tuple(
            replace(device, points=tuple(replace(point, every=every) for point in device.points)) for device in made
        )
        if framing == "tcp":
            made = tuple(replace(device, options={**device.options, "framing": "tcp"}) for device in made)
        there = Bus("line", port, framing, made)
        self.simulator = Simulator(site_of(there), clock=hands.clock(), faults=faults, turnaround=turnaround)
        self.bus = replace(there, devices=tuple(device for device in made if device.address in known))
        self.wire = Wire(hands, self.bus, self.simulator.buses["line"], true)
        clock = hands.clock()
        self.poller = Poller(self.bus, self.wire, clock, Nowhere(), start=hands.now)
        self.desk = Desk(site_of(self.bus), [self.poller], clock)
        self.notes: list[str] = []
        self.findings = Findings()

    @asynccontextmanager
    async def owned(self, *, poll=False):
        task = asyncio.create_task(self.poller.run(poll=poll))
        me = asyncio.current_task()
        # Without the owner of the bus nobody would ever answer.
        task.add_done_callback(lambda done: done.cancelled() or me.cancel(repr(done.exception())))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def scan(self, **request: Any) -> dict[str, Any]:
        """Scan to the end; the result."""
        search = Search(self.desk, self.poller, wish_of(request, self.bus), KNOWLEDGE)
        async for message in search.run():
            self.findings.take(message)
            self.notes += [message["note"]] if "note" in message else []
        return self.findings.result(self.bus, standing=False)

    def functions(self) -> set[int]:
        return {request[7 if isinstance(self.bus.port, TcpPort) else 1] for _, request in self.wire.requests}


def site_of(bus: Bus) -> Site:
    return Site("test", "", "system", Uplink(()), StoreSettings(), (bus,))


def finds(result):
    return {one["unit"]: (one["baud"], one["format"]) for one in result["found"]}


@pytest.fixture
def scanned(hands, virtually):
    """Scan a line; gives the rig and the result."""

    def run(units, *, prepare=lambda rig: None, wish=None, **options):
        rig = Rig(hands, units, **options)
        prepare(rig)

        async def go():
            async with rig.owned():
                return await rig.scan(**(wish or {}))

        return rig, virtually(go())

    return run


METERS = {7: "eastron-sdm630", 100: "peacefair-pzem-016", 243: "xintai-water-meter"}


def test_all_devices_of_a_line_are_found_told_apart_and_only_read(scanned):
    rig, result = scanned(METERS, wish={"baud": 9600, "format": "8N1"})
    assert finds(result) == dict.fromkeys(METERS, (9600, "8N1"))
    assert {one["unit"]: one["profiles"][0]["profile"] for one in result["found"]} == METERS
    assert result["asked"] == 247
    assert result["left"] == 0
    assert rig.functions() <= READS
    assert {17, 43} <= rig.functions()
    told = {one["unit"]: one["identity"].get("vendor", "") for one in result["found"]}
    assert told == {7: "Simulated", 100: "", 243: "Simulated"}
    assert all("= " in matched for one in result["found"] for matched in one["profiles"][0]["matched"])


def test_247_units_at_9600_take_half_a_minute_as_the_formula_says(hands, scanned):
    rig, result = scanned({}, wish={"baud": 9600, "format": "8N1"})
    assert result["seconds"] == pytest.approx(247 * (15 * 10 / 9600 + 0.1), rel=0.02)
    assert len(rig.wire.requests) == 247
    assert result["found"] == []
    assert "A and B" in " ".join(result["hints"])


def test_a_line_at_another_speed_and_parity_is_found(scanned):
    _, result = scanned({66: "eastron-sdm630"}, true=Line(19200, "8E1"), wish={"budget": 7200})
    assert finds(result) == {66: (19200, "8E1")}
    assert 'baud = 19200, format = "8E1"' in result["stanza"]


def test_a_device_of_the_site_file_at_another_speed_is_found_within_seconds(hands, scanned):
    _, result = scanned(METERS, known=[7], true=Line(38400, "8O1"), wish={"budget": 60})
    assert finds(result)[7] == (38400, "8O1")
    assert result["found"][0]["known"] == "d7"


def test_an_answer_that_cannot_be_read_leads_to_the_right_parity(scanned):
    def prepare(rig):
        rig.wire.hear_garbage = {OWN}

    rig, result = scanned({5: "eastron-sdm630"}, true=Line(9600, "8E1"), prepare=prepare, wish={"budget": 3600})
    settings = [line for line, request in rig.wire.requests if request[0] == 5 and request[1] == 3]
    assert settings[:5] == [OWN, OWN, OWN, Line(9600, "8N2"), Line(9600, "8E1")]
    assert finds(result) == {5: (9600, "8E1")}
    assert "another speed or parity" in " ".join(rig.notes)


def test_settings_that_the_port_cannot_do_are_skipped_and_said(scanned):
    def prepare(rig):
        rig.wire.cannot = {Line(9600, form) for form in ("8E1", "8O1", "8N2")}

    rig, result = scanned({7: "eastron-sdm630"}, prepare=prepare, wish={"baud": 9600})
    assert sorted(result["skipped"]) == ["9600 8E1", "9600 8N2", "9600 8O1"]
    assert "cannot" in " ".join(rig.notes)
    assert finds(result) == {7: (9600, "8N1")}
    assert rig.wire.line == OWN


def test_the_budget_ends_a_scan_and_what_is_left_is_counted(scanned):
    _, result = scanned({}, wish={"budget": 20})
    assert result["seconds"] == pytest.approx(20, abs=0.3)
    assert result["left"] > 1000
    assert "--budget" in " ".join(result["hints"])


def test_a_slow_device_is_heard_late_and_asked_again_with_patience(scanned):
    _, result = scanned(METERS, turnaround={"d100": 0.16}, wish={"baud": 9600, "format": "8N1"})
    assert finds(result).keys() == METERS.keys()
    assert next(one["ms"] for one in result["found"] if one["unit"] == 100) == pytest.approx(160, abs=10)


def test_two_devices_with_one_address_are_told(scanned):
    wish = {"baud": 9600, "format": "8N1", "units": "1-120"}
    rig, result = scanned(METERS, faults={"d100": ["conflict clean=0"]}, wish=wish)
    assert "address" in " ".join(rig.notes)
    assert result["mangled"] == [100] or any(one["shared"] for one in result["found"] if one["unit"] == 100)
    rig, result = scanned(METERS, faults={"d100": ["conflict clean=0.4"]}, wish=wish)
    assert "address" in " ".join(rig.notes)


def test_a_refusal_counts_as_found(scanned):
    _, result = scanned(
        {7: "peacefair-pzem-016"}, faults={"d7": ["exception code=2"]}, wish={"units": "1-20", "baud": 9600}
    )
    (found,) = result["found"]
    assert found["exception"] == 2
    assert found["profiles"] == []
    assert "# unit 7 answers, but has no holding register 0" in result["stanza"]


def test_a_lost_port_is_waited_for_and_one_that_never_opens_ends_the_scan(hands, virtually, scanned):
    def lose(rig):
        rig.wire.counter = 0
        exchange = rig.wire.exchange

        async def losing(*args, **kwargs):
            rig.wire.counter += 1
            if rig.wire.counter in (3, 9):
                raise LinkError("gone")
            return await exchange(*args, **kwargs)

        rig.wire.exchange = losing

    _, result = scanned({7: "eastron-sdm630"}, prepare=lose, wish={"baud": 9600, "format": "8N1"})
    assert finds(result) == {7: (9600, "8N1")}
    assert result["asked"] == 247
    with pytest.raises(LinkError, match="in use"):
        scanned({}, prepare=lambda rig: setattr(rig.wire, "never", "/dev/ttyX is in use by another program"))


@pytest.mark.parametrize("every", [10.0, 1.0, 0.4])
def test_a_scan_beside_the_polling_costs_no_reading_and_does_not_ask_who_answers_already(hands, virtually, every):
    rig = Rig(hands, METERS, known=[7, 100], every=every)

    async def go():
        async with rig.owned(poll=True):
            await asyncio.sleep(20)
            before = [(unit.missed, unit.read) for unit in rig.poller.units]
            rig.wire.requests.clear()
            result = await rig.scan(baud=9600, format="8N1")
            return result, before

    result, before = virtually(go())
    assert finds(result).keys() == METERS.keys()
    for unit, (missed, read) in zip(rig.poller.units, before, strict=True):
        assert unit.missed == missed
        assert unit.read > read
        assert unit.record.broken == 0
    ours = {
        request[0] for _, request in rig.wire.requests if request[1:6] == bytes((3, 0, 0, 0, 0)) or request[1] == 17
    }
    assert ours.isdisjoint({7, 100})
    assert {one["known"] for one in result["found"]} == {"d7", "d100", ""}


def test_a_modbus_gateway_is_no_device_and_its_units_are_found(scanned):
    rig, result = scanned({1: "eastron-sdm630", 9: "peacefair-pzem-016"}, port=TcpPort("10.0.0.1"))
    assert finds(result) == {1: (None, None), 9: (None, None)}
    assert [request[6] for _, request in rig.wire.requests[:2]] == [255, 0]
    assert rig.functions() <= READS
    assert "Modbus gateway" in " ".join(rig.notes)


def test_a_host_that_answers_at_every_unit_is_one_device(scanned):
    def prepare(rig):
        answer = rig.wire._behind.answer

        def everywhere(frame, at):
            replies = answer(frame[:6] + b"\1" + frame[7:], at)
            return [reply._replace(data=reply.data[:6] + frame[6:7] + reply.data[7:]) for reply in replies]

        rig.wire._behind = SimpleNamespace(answer=everywhere)

    rig, result = scanned({1: "eastron-sdm630"}, port=TcpPort("10.0.0.1"), prepare=prepare)
    assert len(result["found"]) == 6
    assert "one device" in " ".join(rig.notes)


@pytest.mark.parametrize(
    "request_",
    [
        {"baud": 5},
        {"baud": "9600"},
        {"format": "7E1"},
        {"units": "0-5"},
        {"units": "x" * 10_000},
        {"budget": 0},
        {"budget": 1e9},
        {"budget": "5m"},
    ],
)
def test_what_makes_no_sense_is_declined_with_a_sentence(request_):
    with pytest.raises(Declined) as told:
        wish_of(request_, Bus("line", SerialPort("/dev/ttyX"), "rtu", ()))
    assert len(str(told.value)) < 300


def test_a_host_has_no_speed():
    with pytest.raises(Declined, match="converter"):
        wish_of({"baud": 9600}, Bus("x", TcpPort("x"), "tcp", ()))


def test_a_wrong_profile_of_the_site_costs_the_site_s_own_profiles_only(tmp_path):
    (tmp_path / "bad.toml").write_text("nonsense")
    known, trouble = knowledge_of([SHIPPED, tmp_path])
    assert known == KNOWLEDGE
    assert "bad.toml" in trouble


def test_another_master_on_the_line_is_told_once_and_its_devices_are_not_taken_for_late_ones(scanned):
    frame = bytes.fromhex("32 03 02 0001")
    foreign = frame + crc16(frame)

    def prepare(rig):
        answer = rig.wire._behind.answer
        rig.wire._behind = SimpleNamespace(
            answer=lambda request, at: [*answer(request, at), Delivery(at + 0.02, foreign)]
        )

    rig, result = scanned({}, prepare=prepare, wish={"baud": 9600, "format": "8N1", "units": "1-20"})
    assert result["found"] == []
    assert [note for note in rig.notes if "another master" in note] == rig.notes
    assert len(rig.notes) == 1
