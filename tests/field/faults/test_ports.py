"""Faults of real ports: an adapter that comes back under another number, endpoints that do not keep to Modbus TCP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from drivers.base import Point
from drivers.modbus.register import Register
from gateway.clock import Clock
from gateway.field.link import KEEP
from gateway.field.poller import Poller
from gateway.field.ports import link_of
from gateway.model import Bus, Device, Readings, SerialPort, Site, StoreSettings, TcpPort, Uplink
from gateway.simulator import Simulator


class Sink:
    """Keeps what the poller tells."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, str, Any]] = []
        self.events: list[tuple[str, str]] = []

    async def append(self, readings: Readings) -> None:
        self.samples += [(time.monotonic(), s.quality, s.value) for s in readings.samples]

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None:
        self.events.append((body["code"], body["state"]))

    def good_since(self, moment: float) -> int:
        return sum(quality == "good" for at, quality, _ in self.samples if at > moment)


def bus_on(port: SerialPort | TcpPort, framing: str, timeout: float = 0.3) -> Bus:
    options = {"unit": 1, "framing": framing}
    points = (Point("voltage", Register("holding", 0), every=0.05, low=10.0, high=60000.0),)
    return Bus("bus-1", port, framing, (Device("meter-1", "modbus", 1, points, options=options),), timeout)


@pytest.fixture
async def polled():
    """Poll a bus with the real agent parts; gives (poller, sink)."""
    tasks = []

    def start(bus: Bus) -> tuple[Poller, Sink]:
        clock, sink = Clock("system"), Sink()
        poller = Poller(bus, link_of(bus, clock), clock, sink, start=clock.monotonic())
        tasks.append(asyncio.create_task(poller.run()))
        return poller, sink

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_b02_an_adapter_that_comes_back_under_another_number_is_taken_up_by_its_name(polled, tmp_path, until):
    bus = bus_on(SerialPort(str(tmp_path / "by-path"), 19200), "rtu")
    simulator = Simulator(Site("simulator", "", "system", Uplink(()), StoreSettings(), (bus,)))
    serving = asyncio.create_task(simulator.run())
    await simulator.ready.wait()
    first = (tmp_path / "by-path").readlink()
    _, sink = polled(bus)
    await until(lambda: sink.good_since(0), "the first reading")
    simulator.afflict("bus-1", ["unplug seconds=1 every=1000"])
    await until(lambda: ("port-lost", "raised") in sink.events, "the loss")
    await until((tmp_path / "by-path").is_symlink, "the return")
    assert (tmp_path / "by-path").readlink() != first
    back = time.monotonic()
    await until(lambda: sink.good_since(back), "the first reading after the return", seconds=5.0)
    await until(lambda: ("port-lost", "cleared") in sink.events, "the end of the alarm")
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def endpoint():
    """A TCP server that answers as `answer(request) -> bytes` says; counts its connections."""

    class Endpoint:
        connections = 0
        answer: Any = staticmethod(lambda request: b"")

        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                while request := await reader.read(300):
                    writer.write(self.answer(request))
                    await writer.drain()
            except ConnectionError:
                pass
            writer.close()

    far_end = Endpoint()
    listening = await asyncio.start_server(far_end.serve, "127.0.0.1", 0)
    far_end.port = TcpPort("127.0.0.1", listening.sockets[0].getsockname()[1])
    yield far_end
    listening.close()


def good(request: bytes, value: int = 230) -> bytes:
    return request[:4] + b"\x00\x05" + request[6:8] + b"\x02" + value.to_bytes(2, "big")


async def test_b14_an_endpoint_that_never_answers_is_silent_and_is_taken_up_when_it_does(polled, endpoint, until):
    _, sink = polled(bus_on(endpoint.port, "tcp"))
    await until(lambda: ("device-silent", "raised") in sink.events, "the alarm")
    endpoint.answer = good
    await until(lambda: ("device-silent", "cleared") in sink.events, "the return")
    assert ("port-lost", "raised") not in sink.events


async def test_b14_answers_to_other_transactions_and_of_other_units_are_dropped(polled, endpoint, until):
    def answer(request: bytes) -> bytes:
        other_unit = bytearray(good(request, 1))
        other_unit[6] = 9
        older = bytes(((request[0] + 1) % 256, request[1])) + good(request, 2)[2:]
        other_function = bytearray(good(request, 3))
        other_function[7] = 4
        return bytes(other_unit) + older + bytes(other_function) + good(request)

    endpoint.answer = answer
    _, sink = polled(bus_on(endpoint.port, "tcp"))
    await until(lambda: sink.good_since(0) >= 10, "ten readings")
    assert {value for _, quality, value in sink.samples if quality == "good"} == {230}
    assert {quality for _, quality, _ in sink.samples} == {"good"}


async def test_b14_an_endpoint_that_floods_us_is_hung_up_on(polled, endpoint, until):
    endpoint.answer = lambda request: b"\xff" * 2_000_000
    poller, sink = polled(bus_on(endpoint.port, "tcp"))
    await until(lambda: ("port-lost", "raised") in sink.events, "the alarm")
    assert "babbles" in poller.stats()["fault"]
    endpoint.answer = good
    await until(lambda: sink.good_since(0) >= 3, "readings after it")
    assert endpoint.connections >= 2
    inbox = poller.talks.link._inbox  # type: ignore[attr-defined]
    assert len(inbox._buffer) + len(inbox._skipped) + len(inbox._strays) <= KEEP


@pytest.mark.parametrize("code", [10, 11])
async def test_b08_a_gateway_that_cannot_reach_its_device_keeps_its_connection(polled, endpoint, until, code):
    endpoint.answer = lambda request: request[:4] + b"\x00\x03" + bytes((request[6], request[7] | 0x80, code))
    _, sink = polled(bus_on(endpoint.port, "tcp"))
    await until(lambda: ("device-silent", "raised") in sink.events, "the alarm")
    assert {quality for _, quality, _ in sink.samples} == {f"bad:exception-{code}"}
    assert endpoint.connections == 1
