"""The predicted timeline against what the poller does on a line where everything costs what was planned."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.field.cost import exchange_seconds
from gateway.field.link import Reply
from gateway.field.poller import Poller
from gateway.field.timeline import LONGEST, MOST, demand, timeline
from gateway.model import Bus, SerialPort, Site, StoreSettings, TcpPort, Uplink
from gateway.settings import device_from_profile
from gateway.simulator import Simulator


def bus_of(*devices, baud=9600, port=None):
    """A bus of (profile, unit, every or None, more)."""
    made = []
    for profile, unit, every, more in devices:
        device = device_from_profile(profile, unit, "line")
        points = tuple(replace(point, every=every) for point in device.points if not point.read_clears)
        made.append(replace(device, points=points, **more))
    return Bus("line", port or SerialPort("/dev/ttyX", baud), "rtu", tuple(made))


class Planned:
    """A link on which every exchange is answered, and takes what was planned."""

    def __init__(self, hands, bus):
        self.busy = self.free_at = 0.0
        self.asked = []
        self._clock = hands.clock()
        self._port = bus.port
        site = Site("x", "", "system", Uplink(()), StoreSettings(), (bus,))
        self._behind = Simulator(site, clock=self._clock).buses["line"]

    async def open(self):
        pass

    def close(self):
        pass

    def errors(self):
        return {}

    def strays(self):
        return b""

    async def exchange(self, step, timeout, quiet_gap=0.0):
        began = self._clock.monotonic()
        self.asked.append((began, step.label))
        frame = b"".join(delivery.data for delivery in self._behind.answer(step.request, began))
        await asyncio.sleep(exchange_seconds(step, self._port))
        return Reply(frame, self._clock.monotonic())


class Nowhere:
    async def append(self, readings):
        pass

    async def append_message(self, stream, body):
        pass


METER, PZEM = ("eastron-sdm630", 1, 1.0, {}), ("peacefair-pzem-016", 2, 2.0, {})
SITES = {
    "a line with room": bus_of(METER, PZEM),
    "spread over the grid": bus_of(METER, PZEM, baud=2400),
    "overfull": bus_of(METER, PZEM, ("peacefair-pzem-016", 3, 0.5, {}), baud=1200),
    "as often as it allows": bus_of(METER, ("peacefair-pzem-016", 2, None, {}), ("xintai-water-meter", 3, None, {})),
    "a device that needs a rest": bus_of(("eastron-sdm630", 1, 2.0, {"min_interval": 0.2}), PZEM),
}


@pytest.mark.parametrize("name", SITES)
def test_the_agent_does_what_the_timeline_shows(hands, virtually, name):
    bus = SITES[name]
    link = Planned(hands, bus)
    start = hands.now

    async def poll():
        poller = Poller(bus, link, hands.clock(), Nowhere(), start=start)
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(12)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return sum(unit.missed for unit in poller.units)

    missed = virtually(poll())
    whole = timeline(bus)
    marks = [mark for mark in whole.marks if mark.at < 11]
    units = [f"unit {bus.devices[mark.device].address}:" for mark in marks]
    assert [label.split(" FC")[0] for _, label in link.asked[: len(marks)]] == units
    times = [at - start for at, _ in link.asked[: len(marks)]]
    assert times == pytest.approx([mark.at for mark in marks], abs=0.002)
    assert (missed > 0) == (name == "overfull")


def test_what_is_shown_adds_up():
    for bus in SITES.values():
        whole = timeline(bus)
        assert all(a.at + a.seconds <= b.at + 1e-9 for a, b in zip(whole.marks, whole.marks[1:], strict=False))
        assert whole.share(asap=False) + whole.share(asap=True) <= 1 + 1e-9
    free, full = (timeline(SITES[name]) for name in ("a line with room", "overfull"))
    assert free.share(asap=False) == pytest.approx(demand(SITES["a line with room"]), rel=0.15)
    assert (free.missed, free.share(asap=True)) == (0, 0)
    assert full.missed > 0
    assert demand(SITES["overfull"]) > 1
    assert timeline(SITES["as often as it allows"]).share(asap=True) > 0.5


def test_a_bus_without_end_or_without_anything_is_bounded():
    nothing = timeline(bus_of())
    assert (nothing.marks, nothing.missed, nothing.share(asap=True)) == ([], 0, 0)
    long = timeline(bus_of(("peacefair-pzem-016", 2, None, {}), ("eastron-sdm630", 1, 86400.0, {}), port=TcpPort("x")))
    assert long.seconds == pytest.approx(LONGEST, abs=0.1)
    assert len(long.marks) < MOST


def test_who_is_never_polled_costs_nothing():
    bus = bus_of(METER, ("peacefair-pzem-016", 0, 1.0, {"polled": False}))
    assert {mark.device for mark in timeline(bus).marks} == {0}
    assert demand(bus) == demand(bus_of(METER))
