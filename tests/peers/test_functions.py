"""The functions beside reading and writing points, asked of servers that others wrote: pymodbus' and libmodbus'."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
from pathlib import Path

import pytest
from pymodbus import ModbusDeviceIdentification
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.base import Exchange, Frame, Refused, Reject
from drivers.modbus.driver import Modbus

FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}
WHO = {
    0: "Nhà máy",
    1: "GW-1",
    2: "V2.11",
    3: "https://example.org",
    4: "Gateway " + 100 * "x",
    5: "Model " + 100 * "y",
    6: "Pumps",
}
HOLDS = [SimData(0, values=list(range(1000, 1100)), datatype=DataType.REGISTERS)]


async def hold(reader, writer, talk):
    """Hold a conversation over a byte stream, as a link does."""
    frame = None
    try:
        while True:
            step = talk.send(frame)
            assert isinstance(step, Exchange)
            writer.write(step.request)
            frame = await asyncio.wait_for(answer(reader, step), 10)
    except StopIteration as end:
        return end.value


async def answer(reader, step):
    buffer = bytearray()
    while True:
        buffer += await reader.read(1)  # one by one: no frame may be taken early
        while isinstance(found := step.find(buffer), Reject):
            del buffer[: found.size]
        if isinstance(found, Frame):
            assert len(buffer) == found.end <= max(step.reply_size, 9)
            return bytes(buffer[found.start : found.end])


@pytest.fixture(params=FRAMERS)
async def pymodbus_server(request, free_port):
    """(driver, ask): asks pymodbus' server, in every framing over TCP."""
    port = free_port()
    server = ModbusTcpServer(
        SimDevice(5, HOLDS),
        framer=FRAMERS[request.param],
        address=("127.0.0.1", port),
        identity=ModbusDeviceIdentification(info=WHO),
    )
    await server.serve_forever(background=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Modbus(5, request.param), lambda talk: hold(reader, writer, talk)
    finally:
        writer.close()
        await server.shutdown()


async def test_identification_and_diagnostics(pymodbus_server):
    driver, ask = pymodbus_server
    assert await ask(driver.identify()) == {
        "vendor": WHO[0],
        "product": WHO[1],
        "revision": WHO[2],
        "url": WHO[3],
        "product_name": WHO[4],
        "model": WHO[5],
        "application": WHO[6],
    }
    data, running = await ask(driver.server_id())
    assert data.startswith("-".join((WHO[0], WHO[1], WHO[2])).encode())
    assert running is True
    assert 0 <= await ask(driver.exception_status()) <= 255
    assert await ask(driver.diagnostics(0, b"\xa5\x37")) == b"\xa5\x37"
    assert len(await ask(driver.diagnostics(11))) == 2
    status, count = await ask(driver.comm_event_counter())
    assert status in (0, 0xFFFF)
    assert 0 <= count <= 0xFFFF
    assert isinstance((await ask(driver.comm_event_log()))[3], bytes)


async def test_registers_files_and_queues(pymodbus_server):
    driver, ask = pymodbus_server
    await ask(driver.mask_write(4, 0x00F2, 0x0025))
    assert await ask(driver.read_raw("holding", 4, 1)) == ((1004 & 0xF2) | (0x25 & ~0xF2)).to_bytes(2, "big")
    assert await ask(driver.read_write(9, 2, 10, b"\0\7\0\x08")) == (1009).to_bytes(2, "big") + b"\0\7"
    assert await ask(driver.fifo(1)) == [0, 1, 2, 3]
    assert await ask(driver.read_file(1, 0, 10)) == b"SERVER DUMMY RECORD."
    await ask(driver.write_file(1, 0, b"\1\2\3\4"))
    with pytest.raises(Refused, match="no such register"):
        await ask(driver.read_raw("holding", 99, 2))


async def test_over_a_serial_line(line):
    server = ModbusSerialServer(
        SimDevice(5, HOLDS),
        framer=FramerType.RTU,
        port=str(line[0]),
        baudrate=19200,
        identity=ModbusDeviceIdentification(info=WHO),
    )
    await server.serve_forever(background=True)
    driver = Modbus(5)
    with line[1].open("r+b", buffering=0) as port:

        def ask(talk):
            frame = None
            try:
                while True:
                    step = talk.send(frame)
                    port.write(step.request)
                    buffer = bytearray()
                    while not isinstance(found := step.find(buffer), Frame):
                        assert select.select([port], [], [], 10)[0], step.label
                        buffer += port.read(1)
                    frame = bytes(buffer[found.start : found.end])
            except StopIteration as end:
                return end.value

        try:
            assert (await asyncio.to_thread(ask, driver.identify()))["application"] == "Pumps"
            assert await asyncio.to_thread(ask, driver.fifo(1)) == [0, 1, 2, 3]
            assert await asyncio.to_thread(ask, driver.diagnostics(0, b"\xa5\x37")) == b"\xa5\x37"
        finally:
            await server.shutdown()


async def test_libmodbus(free_port):
    port = free_port()
    script = Path(__file__).parent / "libmodbus_server.py"
    server = subprocess.Popen([sys.executable, str(script), "tcp", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert await asyncio.to_thread(server.stdout.readline) == "ready\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        driver = Modbus(5, "tcp")
        data, running = await hold(reader, writer, driver.server_id())
        assert b"LMB" in data
        assert running is True
        await hold(reader, writer, driver.mask_write(4, 0x00F2, 0x0025))
        assert await hold(reader, writer, driver.read_raw("holding", 4, 1)) == (1004 & 0xF2 | 0x25 & ~0xF2).to_bytes(2)
        assert await hold(reader, writer, driver.read_write(9, 2, 10, b"\0\7")) == b"\x03\xf1\0\7"
        assert await hold(reader, writer, driver.identify()) == {}
        writer.close()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
