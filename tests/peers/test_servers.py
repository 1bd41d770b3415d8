"""The poller against servers that others wrote: pymodbus' and libmodbus', on TCP and on a serial line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.base import Point
from drivers.modbus.register import Register
from gateway.clock import Clock
from gateway.field.poller import Poller
from gateway.field.ports import link_of
from gateway.model import Bus, Device, Readings, SerialPort, TcpPort

HERE = Path(__file__).parent


class Sink:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.qualities: set[str] = set()
        self.events: list[Any] = []

    async def append(self, readings: Readings) -> None:
        self.values.update({sample.point: sample.value for sample in readings.samples})
        self.qualities |= {sample.quality for sample in readings.samples}

    async def append_message(self, stream: str, body: Any) -> None:
        self.events.append(body)


async def poll(bus: Bus, wanted: int, until: Any) -> Sink:
    """Poll until so many points have been seen."""
    sink = Sink()
    clock = Clock("system")
    poller = Poller(bus, link_of(bus, clock), clock, sink, start=clock.monotonic())
    task = asyncio.create_task(poller.run())
    await until(lambda: len(sink.values) >= wanted or task.done(), "the first readings")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sink


def device(framing: str, *points: Point) -> Device:
    return Device("unit-5", "modbus", 5, points, options={"unit": 5, "framing": framing})


def point(name: str, *where: Any, **options: Any) -> Point:
    return Point(name, Register(*where), every=0.2, **options)


LIBMODBUS = (
    point("holding_7", "holding", 7),
    point("holding_199", "holding", 199),
    point("pair", "holding", 10, "u32"),
    point("input_3", "input", 3),
    point("coil_3", "coil", 3),
    point("coil_4", "coil", 4),
    point("nowhere", "holding", 500),
)
EXPECTED = {
    "holding_7": 1007,
    "holding_199": 1199,
    "pair": 1010 << 16 | 1011,
    "input_3": 2003,
    "coil_3": True,
    "coil_4": False,
    "nowhere": None,
}


async def start_libmodbus(*args: str) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, str(HERE / "libmodbus_server.py"), *args], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    ready = await asyncio.to_thread(server.stdout.readline)
    server.stdout.close()
    assert ready == "ready\n"
    return server


async def test_libmodbus_over_a_serial_line(line, until):
    server = await start_libmodbus("rtu", str(line[0]), "19200")
    try:
        bus = Bus("line", SerialPort(str(line[1]), 19200), "rtu", (device("rtu", *LIBMODBUS),))
        sink = await poll(bus, len(EXPECTED), until)
    finally:
        server.terminate()
        server.wait()
    assert sink.values == EXPECTED
    assert sink.qualities == {"good", "bad:exception-2"}
    assert sink.events == []


async def test_libmodbus_over_tcp(free_port, until):
    port = free_port()
    server = await start_libmodbus("tcp", str(port))
    try:
        bus = Bus("plc", TcpPort("127.0.0.1", port), "tcp", (device("tcp", *LIBMODBUS),))
        sink = await poll(bus, len(EXPECTED), until)
    finally:
        server.terminate()
        server.wait()
    assert sink.values == EXPECTED
    assert sink.events == []


PYMODBUS = (
    point("f32", "holding", 0, "f32"),
    point("f32_swapped", "holding", 2, "f32", "CDAB"),
    point("s64", "holding", 4, "s64"),
    point("f64", "holding", 8, "f64"),
    point("s16", "holding", 12, "s16", scale=0.1, decimals=1),
)
PYMODBUS_HOLDS = [
    SimData(0, values=[230.2], datatype=DataType.FLOAT32),
    SimData(2, values=[0x3333, 0x4366], datatype=DataType.REGISTERS),
    SimData(4, values=[-(2**40)], datatype=DataType.INT64),
    SimData(8, values=[12345.678], datatype=DataType.FLOAT64),
    SimData(12, values=[-56], datatype=DataType.INT16),
]
PYMODBUS_VALUES = {"f32": 230.2, "f32_swapped": 230.2, "s64": -(2**40), "f64": 12345.678, "s16": -5.6}


@pytest.mark.parametrize(
    ("framing", "framer"), [("tcp", FramerType.SOCKET), ("rtu", FramerType.RTU), ("ascii", FramerType.ASCII)]
)
async def test_pymodbus_over_tcp_in_every_framing(framing, framer, free_port, until):
    port = free_port()
    server = ModbusTcpServer(SimDevice(5, PYMODBUS_HOLDS), framer=framer, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        bus = Bus("plc", TcpPort("127.0.0.1", port), framing, (device(framing, *PYMODBUS),))
        sink = await poll(bus, len(PYMODBUS_VALUES), until)
    finally:
        await server.shutdown()
    assert sink.values == PYMODBUS_VALUES
    assert sink.qualities == {"good"}


@pytest.mark.parametrize(("framing", "framer"), [("rtu", FramerType.RTU), ("ascii", FramerType.ASCII)])
async def test_pymodbus_over_a_serial_line(framing, framer, line, until):
    server = ModbusSerialServer(SimDevice(5, PYMODBUS_HOLDS), framer=framer, port=str(line[0]), baudrate=19200)
    await server.serve_forever(background=True)
    try:
        bus = Bus("line", SerialPort(str(line[1]), 19200), framing, (device(framing, *PYMODBUS),))
        sink = await poll(bus, len(PYMODBUS_VALUES), until)
    finally:
        await server.shutdown()
    assert sink.values == PYMODBUS_VALUES
    assert sink.qualities == {"good"}
