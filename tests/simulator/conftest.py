"""Sites made by hand, with addresses that only look like the driver's, and a simulator that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Point
from gateway.model import Bus, Device, SerialPort, Site, StoreSettings, TcpPort, Uplink
from gateway.simulator import Simulator
from gateway.simulator.wire import Request


@dataclass(frozen=True)
class Where:
    """A stand-in for the driver's register: the simulator must do with its attributes."""

    table: str
    at: int
    type: str = "u16"
    order: str = ""
    bit: int | tuple[int, int] | None = None
    length: int | None = None

    @property
    def count(self) -> int:
        words = {"u32": 2, "s32": 2, "f32": 2, "u64": 4, "s64": 4, "f64": 4}
        return self.length or words.get(self.type, 1)


def make_point(name: str, table: str, at: int, type: str = "u16", **more: Any) -> Point:  # noqa: A002 - a profile's word
    address = {key: more.pop(key) for key in ("order", "bit", "length") if key in more}
    return Point(name, Where(table, at, type, **address), **more)


def every_type() -> tuple[Point, ...]:
    """One point of every type and order, in holding and input registers, and bits of all tables."""
    points: list[Point] = []
    kinds = {"u32": ("ABCD", "CDAB", "BADC", "DCBA"), "u64": ("ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA")}
    orders = {"u16": ("", "AB", "BA"), "s16": ("", "BA")}
    orders |= dict.fromkeys(("u32", "s32", "f32"), kinds["u32"])
    orders |= dict.fromkeys(("u64", "s64", "f64"), (*kinds["u64"], "CDAB"))
    for table in ("holding", "input"):
        at = 100
        for kind, names in orders.items():
            for order in names:
                name = f"{table}_{kind}_{order or 'plain'}".lower()
                point = make_point(name, table, at, kind, order=order, unit="Cel", scale=1 if kind[0] == "f" else 0.1)
                points.append(point)
                at += point.where.count  # type: ignore[attr-defined]
    points += [
        make_point("percent_hi", "holding", 300, "u8hi", unit="%"),
        make_point("percent_lo", "holding", 300, "u8lo", unit="%"),
        make_point("phase", "holding", 301, "bits", bit=(4, 3), kind="state", labels={0: "tắt", 3: "chờ", 5: "bật"}),
        make_point("pump", "holding", 301, "bit", bit=0, kind="state"),
        make_point("total", "holding", 302, "bcd", length=2, unit="m3", kind="counter", scale=0.01),
        make_point("serial", "holding", 304, "string", length=6, kind="text"),
        make_point("serial_swapped", "holding", 310, "string", length=6, kind="text", order="BA"),
        make_point("lamp", "coil", 3, "bit", kind="state"),
        make_point("door", "discrete", 17, "bit", kind="alarm"),
    ]
    return tuple(points)


class Port:
    """A client that has opened the line."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def arrived(self) -> int:
        with contextlib.suppress(BlockingIOError):
            self.data += os.read(self.fd, 4096)
        return len(self.data)

    def gone(self) -> bool:
        """Whether the port was taken away."""
        try:
            return os.read(self.fd, 4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        os.close(self.fd)


READ = bytes.fromhex("03 0000 0002")


class Line:
    """Asks a bus without a port, on the hands of a test."""

    def __init__(self, simulator, hands, bus):
        self.simulator, self.hands, self.bus = simulator, hands, simulator.buses[bus]

    def frame(self, pdu=READ, unit=1, tag=b"\0\1") -> bytes:
        return self.bus.framing.wrap(Request(unit, b"", tag, b""), pdu)

    def ask(self, pdu=READ, unit=1):
        """What the line carries for one request now."""
        return self.bus.answer(self.frame(pdu, unit), self.hands.now)

    def heard(self, pdu=READ, unit=1) -> bytes:
        """The bytes of `ask`; then two seconds pass."""
        data = b"".join(data for _, data in self.ask(pdu, unit))
        self.hands.now += 2
        self.simulator.refresh()
        return data

    def truth(self, unit=1) -> bytes:
        """The frame that a healthy device gives now."""
        name = next(device.name for device in self.bus.bus.devices if device.address == unit)
        image = self.simulator._devices[name].image
        return self.frame(b"\x03\x04" + image.read("holding", 0, 2), unit)


def make_site(*buses: Bus) -> Site:
    return Site("test", "", "system", Uplink(()), StoreSettings(), buses)


@pytest.fixture
def point() -> Callable[..., Point]:
    return make_point


@pytest.fixture
def all_points() -> tuple[Point, ...]:
    return every_type()


@pytest.fixture
def tcp_site() -> Callable[..., Site]:
    """A site with one TCP bus; devices are given as name=(address, points)."""

    def build(framing: str = "tcp", **devices: tuple[int, tuple[Point, ...]]) -> Site:
        made = tuple(Device(name, "modbus", address, points) for name, (address, points) in devices.items())
        return make_site(Bus("net", TcpPort("127.0.0.1", 0), framing, made))

    return build


@pytest.fixture
def serial_site(tmp_path: Path) -> Callable[..., Site]:
    """A site with one serial bus on a path of its own."""

    def build(framing: str = "rtu", baud: int = 115200, **devices: tuple[int, tuple[Point, ...]]) -> Site:
        made = tuple(Device(name, "modbus", address, points) for name, (address, points) in devices.items())
        return make_site(Bus("rs485", SerialPort(str(tmp_path / "tủ-1"), baud), framing, made))

    return build


@pytest.fixture
def port_at() -> Callable[[str], Port]:
    """Open a serial port as plain bytes."""
    return Port


@pytest.fixture
def serving() -> Callable[[Simulator], AbstractAsyncContextManager[str]]:
    """Run a simulator; gives the address of its first bus."""

    @asynccontextmanager
    async def serve(simulator: Simulator) -> AsyncIterator[str]:
        task = asyncio.create_task(simulator.run())
        ready = asyncio.create_task(simulator.ready.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        try:
            yield next(iter(simulator.addresses.values()))
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled()

    return serve


@pytest.fixture
def mbpoll() -> Callable[..., Any]:
    """Run mbpoll once; gives its values as text, in order."""

    async def run(*arguments: object) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            "mbpoll", "-1", "-0", *map(str, arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output = (await process.communicate())[0].decode(errors="replace")
        assert process.returncode == 0, output
        return [line.split(":", 1)[1].split()[0] for line in output.splitlines() if line.startswith("[")]

    return run


@pytest.fixture
def points(point):
    return (
        point("energy", "holding", 0, "u32", unit="kW.h", kind="counter", scale=0.001),
        point("volt", "holding", 2, "u16", unit="V", scale=0.1),
        point("setpoint", "holding", 3, "u16", kind="config", writable=True),
    )


@pytest.fixture
def line_of(hands) -> Callable[[Simulator, str], Line]:
    """One bus of a simulator, on the hands of the test."""
    return lambda simulator, bus: Line(simulator, hands, bus)


@pytest.fixture
def line(serial_site, points, hands):
    """A line of two meters, with these faults."""

    def build(faults=(), *, framing="rtu", seed=1, name="meter", **others):
        site = serial_site(framing, baud=9600, meter=(1, points), other=(2, points))
        given = {name: faults} if faults else {}
        return Line(Simulator(site, clock=hands.clock(), seed=seed, faults=given | others), hands, "rs485")

    return build
